// The models of all engines, the one that answers in a conversation, and loading another one.

import { computed, signal } from "@preact/signals";
import type { Models } from "../api";
import * as conversations from "./conversations";
import { announce, toast } from "./say";
import { api, refused } from "./service";
import { texts } from "../texts";
import { explain } from "./explain";

export const models = signal<Models | undefined>(undefined);
export const problem = signal("");
/** The model that is being loaded, and since when (ms since 1970). */
export const swapping = signal<{ tag: string; since: number } | undefined>(undefined);

export const current = computed(() => models.value?.current_model ?? undefined);

/** Chosen for a conversation that does not exist yet. */
export const picked = signal<string | undefined>(undefined);

/** The models that can answer at once; samosaChaat's own engine has one at a time. */
export const ready = computed(
  () => models.value?.models.filter(({ available, loaded }) => available && loaded) ?? [],
);

/** The model that answers in this conversation; undefined where that is not known. */
export function modelOf(id: string | undefined): string | undefined {
  const wanted = id === undefined ? picked.value : conversations.conversation(id)?.model_tag;
  return ready.value.some(({ model_tag }) => model_tag === wanted) ? wanted : current.value;
}

/** The model as a field of a request, so that the one that is shown answers. */
export function forAnswer(id: string): { model_tag?: string } {
  const model = modelOf(id);
  return ready.peek().length > 1 && model !== undefined ? { model_tag: model } : {};
}

export async function refresh(): Promise<void> {
  try {
    models.value = await api.models();
    problem.value = "";
  } catch (error) {
    refused(error);
    problem.value = explain(error);
  }
}

/** Loads another model; true when it answers from now on. */
export async function swap(tag: string): Promise<boolean> {
  swapping.value = { tag, since: Date.now() };
  announce(texts.peek().models.loading(tag));
  try {
    await api.swap(tag);
    await refresh();
    toast(texts.peek().models.ready(tag));
    return true;
  } catch (error) {
    refused(error);
    toast(texts.peek().models.notLoaded(tag, explain(error)), { ms: 10_000 });
    await refresh();
    return false;
  } finally {
    swapping.value = undefined;
  }
}
