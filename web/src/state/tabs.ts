// Messages between the tabs of one browser.

import type { Conversation } from "../api";
import type { Answer } from "../stream";

/** An event of the change feed. */
export type Change =
  | { cursor: true }
  | { conversation: Conversation }
  | { deleted: string }
  | { answer: { conversation_id: string; message_id: string; status: string } }
  | { resync: true };

export type News =
  /** This conversation has changed: a message, an answer, its end. */
  | { type: "conversation"; id: string }
  /** The list has changed. */
  | { type: "list" }
  /** A tab without a stream of its own asks for the answer in this conversation. */
  | { type: "asking"; id: string }
  /** The answer so far, from the tab that reads its stream. */
  | { type: "answer"; id: string; answer: Answer }
  /** Changes from the tab that reads the change feed; none as a heartbeat. */
  | { type: "changes"; cursor: string; changes: Change[] }
  /** A tab has closed a stream. */
  | { type: "free" };

const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("samosachaat") : undefined;
const listeners = new Set<(news: News) => void>();

channel?.addEventListener("message", ({ data }: MessageEvent<News>) => {
  for (const listener of listeners) listener(data);
});

/** Sends a message to all other tabs. */
export function tell(news: News): void {
  channel?.postMessage(news);
}

/** Sends a message to all tabs, including this one. */
export function tellAll(news: News): void {
  tell(news);
  for (const listener of listeners) listener(news);
}

/** Calls back with other tabs' messages. Returns a function that ends that. */
export function onNews(callback: (news: News) => void): () => void {
  listeners.add(callback);
  return () => listeners.delete(callback);
}
