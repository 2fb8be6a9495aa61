// Which conversations have a running answer, and which have one that ended and was not seen yet.

import { effect, signal } from "@preact/signals";
import { openId } from "./router";
import { personal, session } from "./session";
import { onChange, read, write } from "./storage";
import type { Change } from "./tabs";

type AnswerChange = Extract<Change, { answer: unknown }>["answer"];
/** Conversation to message. */
type Ends = Record<string, string>;

// Tabs learn of an end in any order, and a tab's storage reaches the others late. So each of the
// two only grows, and a seen answer stays seen.
const ENDED = "ended";
const SEEN = "seen";
const MOST_KEPT = 200;

/** The conversations with a running answer, according to the change feed. */
export const running = signal<ReadonlySet<string>>(new Set());
/** The conversations with an answer that ended and was not seen in this browser. */
export const unread = signal<ReadonlySet<string>>(new Set());

/** Stores the change feed's state of an answer. */
export function markAnswer({ conversation_id: id, message_id, status }: AnswerChange): void {
  setRunning(id, status === "generating");
  if (status === "generating") return;
  keep(isLookedAt(id) ? SEEN : ENDED, id, message_id);
}

/** Stores that the user has seen the end of an answer, of which the feed may tell later. */
export function markSeen(id: string, message: string): void {
  if (isLookedAt(id)) keep(SEEN, id, message);
}

/** Returns whether the user has seen the end of an answer in this browser. */
export function wasSeen({ conversation_id: id, message_id }: AnswerChange): boolean {
  return load(SEEN)[id] === message_id;
}

/** The feed has missed changes: running answers are unknown until the next ones. */
export function forgetRunning(): void {
  running.value = new Set();
}

/** Removes the marks of a deleted conversation. */
export function unmark(id: string): void {
  setRunning(id, false);
}

/** Starts storing the marks of the signed-in user. */
export function keepMarks(): void {
  const look = () => {
    const id = openId.peek();
    if (id !== undefined && unread.peek().has(id) && isLookedAt(id)) {
      keep(SEEN, id, load(ENDED)[id]!);
    }
  };
  effect(() => {
    if (!session.value) forgetRunning();
    compare();
  });
  effect(() => {
    if (openId.value !== undefined && session.value) look();
  });
  document.addEventListener("visibilitychange", look);
  onChange(ENDED, compare);
  onChange(SEEN, compare);
}

function isLookedAt(id: string): boolean {
  return !document.hidden && openId.peek() === id;
}

function setRunning(id: string, isRunning: boolean): void {
  if (running.peek().has(id) === isRunning) return;
  const now = new Set(running.peek());
  if (isRunning) now.add(id);
  else now.delete(id);
  running.value = now;
}

const load = (name: string): Ends => read<Ends>(personal(name)) ?? {};

function keep(name: string, id: string, message: string): void {
  const others = Object.entries(load(name)).filter(([one]) => one !== id);
  write(personal(name), Object.fromEntries([...others, [id, message]].slice(-MOST_KEPT)));
  compare();
}

function compare(): void {
  const seen = load(SEEN);
  const ended = Object.entries(load(ENDED)).filter(([id, message]) => seen[id] !== message);
  unread.value = new Set(ended.map(([id]) => id));
}
