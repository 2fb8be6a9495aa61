// The open parts of the page's frame, and the focus.

import { signal } from "@preact/signals";
import type { Message } from "../api";
import type { Chat } from "../state/chat";
import { toast } from "../state/say";
import { texts } from "../texts";

export const drawer = signal(false);
export const palette = signal(false);
export const settings = signal(false);
export const shortcuts = signal(false);
/** Whether the settings of the open conversation are shown. */
export const conversationSettings = signal(false);
/** A message that is to be deleted, once that is confirmed. */
export const deleting = signal<{ chat: Chat; message: Message } | undefined>(undefined);

/** A touch screen, whose keyboard covers a part of the page. */
export const coarse = matchMedia("(pointer: coarse)");

/** Focuses the composer; not on a touch screen, where that opens the keyboard. */
export function focusComposer(always = false): void {
  if (coarse.matches && !always) return;
  requestAnimationFrame(() => document.querySelector<HTMLTextAreaElement>("#composer")?.focus());
}

/** Whether a dialog or menu is open that handles keys itself. */
export function somethingIsOpen(): boolean {
  return document.querySelector("dialog[open], :popover-open") !== null || drawer.peek();
}

/** Keeps a file or a link that is dropped on the page from being opened in its place. */
export function keepDrops(): void {
  for (const name of ["dragover", "drop"] as const) {
    addEventListener(name, (event: DragEvent) => {
      const files = event.dataTransfer?.types.includes("Files") ?? false;
      const field = event.target instanceof Element && event.target.closest("textarea, input");
      if (field && !files) return;
      event.preventDefault();
      if (files && name === "drop") {
        toast(texts.peek().noFiles);
      }
    });
  }
}
