// What the tabs of one browser tell each other.

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
  /** Something happened in this conversation: a message, an answer, its end. */
  | { type: "conversation"; id: string }
  /** The list is not what it was. */
  | { type: "list" }
  /** A tab without a stream of its own wants to hear of the answer in this conversation. */
  | { type: "asking"; id: string }
  /** The answer so far, from the tab that reads its stream. */
  | { type: "answer"; id: string; answer: Answer }
  /** What the change feed has told the tab that reads it; nothing, for a sign of life. */
  | { type: "changes"; cursor: string; changes: Change[] }
  /** A tab has closed a stream. */
  | { type: "free" };

const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("samosachaat") : undefined;
const listeners = new Set<(news: News) => void>();

channel?.addEventListener("message", ({ data }: MessageEvent<News>) => {
  for (const listener of listeners) listener(data);
});

/** Tells all other tabs. */
export function tell(news: News): void {
  channel?.postMessage(news);
}

/** Tells all tabs, this one included. */
export function tellAll(news: News): void {
  tell(news);
  for (const listener of listeners) listener(news);
}

/** Calls back with what other tabs tell. Returns what ends that. */
export function onNews(callback: (news: News) => void): () => void {
  listeners.add(callback);
  return () => listeners.delete(callback);
}
