// Two kinds of address: `/` for a new conversation, `/c/<id>` for an existing one.

import { computed, signal } from "@preact/signals";

const path = signal(location.pathname);

/** The conversation that the address names; undefined for a new one. */
export const openId = computed(() => /^\/c\/([0-9a-f-]{36})$/i.exec(path.value)?.[1]);

/** Whether the address is neither. */
export const unknownAddress = computed(
  () => openId.value === undefined && !/^\/(index\.html)?$/.test(path.value),
);

export function addressOf(id: string | undefined): string {
  return id === undefined ? "/" : `/c/${id}`;
}

export function go(id: string | undefined, options: { replace?: boolean } = {}): void {
  const address = addressOf(id);
  if (address !== location.pathname) {
    history[options.replace ? "replaceState" : "pushState"](null, "", address);
  }
  path.value = address;
}

addEventListener("popstate", () => {
  path.value = location.pathname;
});
