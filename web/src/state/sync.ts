// Keeps the shown state up to date with other tabs, other devices, and the service after an outage.

import { effect } from "@preact/signals";
import { chat, forgetChats } from "./chats";
import * as conversations from "./conversations";
import * as models from "./models";
import { followChanges, isFed } from "./feed";
import { forgetRunning, keepMarks, markAnswer, unmark } from "./marks";
import { notifyOf, showPresence } from "./notify";
import { go } from "./router";
import { lost, onFound } from "./service";
import { expired, session } from "./session";
import { type Change, onNews } from "./tabs";

const POLL_MS = 20_000;
const NOT_SO_OFTEN_MS = 3_000;

export function keepInStep(): void {
  let whose: string | undefined;
  effect(() => {
    const user = session.value?.user.id;
    if (user === whose) return;
    if (whose !== undefined) {
      forgetChats();
      conversations.forget();
      if (user !== undefined) go(undefined);
    }
    whose = user;
    if (user === undefined) return;
    conversations.settle();
    void conversations.refresh();
    void conversations.findFavourites();
    void conversations.findTags();
    void models.refresh();
  });

  onNews((news) => {
    if (news.type !== "list" && news.type !== "conversation") return;
    void conversations.refresh();
    if (news.type === "conversation" && chat.peek()?.id === news.id) void chat.peek()?.refresh();
  });

  onFound(lookAround);

  let looked = Date.now();
  const back = () => {
    if (document.hidden || Date.now() - looked < NOT_SO_OFTEN_MS) return;
    looked = Date.now();
    lookAround();
  };
  document.addEventListener("visibilitychange", back);
  addEventListener("focus", back);

  setInterval(() => void poll(), POLL_MS);
  keepMarks();
  showPresence();
  followChanges(takeOver);
}

/** The feed began after the list was loaded: load the changes in between once. */
let isBehind = false;

/** Applies changes of this or another device. */
function takeOver(changes: Change[], isReader: boolean): void {
  const open = chat.peek();
  let isStale = false;
  for (const change of changes) {
    if ("cursor" in change) {
      isBehind = true;
      forgetRunning();
    } else if ("resync" in change) {
      void conversations.refresh();
      void conversations.findTags();
      isStale = true;
      forgetRunning();
    } else if ("conversation" in change) {
      conversations.put(change.conversation);
      isStale ||= change.conversation.id === open?.id;
    } else if ("deleted" in change) {
      conversations.drop(change.deleted);
      unmark(change.deleted);
      isStale ||= change.deleted === open?.id;
    } else if ("answer" in change) {
      const { conversation_id, message_id, status } = change.answer;
      markAnswer(change.answer);
      if (isReader) void notifyOf(change.answer);
      isStale ||= conversation_id === open?.id && !open.knows(message_id, status);
    }
  }
  if (isStale) open?.catchUp();
}

function idle(): boolean {
  return !session.peek() || expired.peek() || lost.peek() !== undefined;
}

function lookAround(): void {
  if (idle()) return;
  conversations.settle();
  void conversations.refresh();
  void models.refresh();
  void chat.peek()?.refresh();
}

/** One small request while the page is visible; the conversation only after a change. */
async function poll(): Promise<void> {
  if (idle() || document.hidden || (isFed() && !isBehind)) return;
  isBehind = false;
  const open = chat.peek();
  const before = open && conversations.conversation(open.id)?.updated_at;
  await conversations.refresh();
  if (open && open === chat.peek() && conversations.conversation(open.id)?.updated_at !== before) {
    void open.refresh();
  }
}
