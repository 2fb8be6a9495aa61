// The conversation that the address names, and those opened before.

import { effect, signal } from "@preact/signals";
import { Chat } from "./chat";
import * as conversations from "./conversations";
import * as models from "./models";
import { go, openId } from "./router";
import { expired, session } from "./session";

const MOST_KEPT = 20;
const kept = new Map<string, Chat>();

function chatOf(id: string): Chat {
  const found = kept.get(id) ?? new Chat(id);
  kept.delete(id);
  kept.set(id, found);
  for (const old of [...kept.keys()].slice(0, -MOST_KEPT)) kept.delete(old);
  return found;
}

/** The open conversation; undefined where a new one begins. */
export const chat = signal<Chat | undefined>(undefined);

export function forgetChats(): void {
  for (const old of kept.values()) old.drop();
  chat.value = undefined;
  kept.clear();
}

/** Starts following the address. */
export function followAddress(): void {
  effect(() => {
    const id = session.value === undefined ? undefined : openId.value;
    const before = chat.peek();
    if (before?.id === id) return;
    before?.leave();
    chat.value = id === undefined ? undefined : chatOf(id);
    void chat.peek()?.open();
  });
  // Continue after a sign-in during a conversation.
  let asked = false;
  effect(() => {
    if (asked && !expired.value && session.value) void chat.peek()?.refresh();
    asked = expired.value;
  });
}

let beginning: Promise<void> | undefined;

/**
 * Begins a conversation with this message; once, however often one presses.
 * Throws what the service said.
 */
export function begin(content: string): Promise<void> {
  beginning ??= create(content).finally(() => {
    beginning = undefined;
  });
  return beginning;
}

async function create(content: string): Promise<void> {
  const created = await conversations.create(models.modelOf(undefined));
  const begun = chatOf(created.id);
  begun.loaded.value = true;
  begun.send(content);
  chat.value = begun;
  go(created.id);
}
