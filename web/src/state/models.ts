// The models that the inference service has, and loading another one.

import { computed, signal } from "@preact/signals";
import type { Models } from "../api";
import { announce, toast } from "./say";
import { api, refused } from "./service";

export const models = signal<Models | undefined>(undefined);
export const problem = signal("");
/** The model that is being loaded, and since when (ms since 1970). */
export const swapping = signal<{ tag: string; since: number } | undefined>(undefined);

export const current = computed(() => models.value?.current_model ?? undefined);

export async function refresh(): Promise<void> {
  try {
    models.value = await api.models();
    problem.value = "";
  } catch (error) {
    refused(error);
    problem.value = (error as Error).message;
  }
}

/** Loads another model; true when it answers from now on. */
export async function swap(tag: string): Promise<boolean> {
  swapping.value = { tag, since: Date.now() };
  announce(`Loading ${tag}`);
  try {
    await api.swap(tag);
    await refresh();
    toast(`${tag} is ready.`);
    return true;
  } catch (error) {
    refused(error);
    toast(`${tag} was not loaded: ${(error as Error).message}`, { ms: 10_000 });
    await refresh();
    return false;
  } finally {
    swapping.value = undefined;
  }
}
