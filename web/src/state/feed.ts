// The change feed of all devices. One tab of a browser reads it, and informs the others.

import { effect } from "@preact/signals";
import { backoff, batches, bodyOf, pause, Refused } from "../stream";
import { away } from "./follow";
import { notifications } from "./preferences";
import { config, lost, refused } from "./service";
import { expired, session } from "./session";
import { type Change, onNews, tell } from "./tabs";
import { takeFeed } from "./turns";

/** A heartbeat comes every 15 seconds; a longer silence means that the connection is dead. */
const SILENCE_MS = 40_000;
const RETRY_MS = 30_000;

let cursor = "";
let heardAt = 0;

/** Whether the feed reports all changes, so that no polling is needed. */
export function isFed(): boolean {
  return Date.now() - heardAt < SILENCE_MS;
}

/** Calls back with what changes, whichever tab reads it, from now on; `isReader` in that tab only. */
export function followChanges(callback: (changes: Change[], isReader: boolean) => void): void {
  onNews((news) => {
    if (news.type !== "changes") return;
    heardAt = Date.now();
    cursor = news.cursor;
    callback(news.changes, false);
  });
  let reading: AbortController | undefined;
  let whose: string | undefined;
  effect(() => {
    const user = session.value?.user.id;
    const wanted = user !== undefined && !expired.value && isWanted() && lost.value === undefined;
    if (user !== whose) cursor = "";
    if (wanted && reading && user === whose) return;
    whose = user;
    reading?.abort();
    reading = wanted ? new AbortController() : undefined;
    if (reading) void read(reading.signal, callback);
  });
}

/** While hidden, the feed is only read for notifications of ended answers. */
function isWanted(): boolean {
  return !away.value || notifications.value;
}

/** Reads the feed whenever it is this tab's turn. */
async function read(
  signal: AbortSignal,
  callback: (changes: Change[], isReader: boolean) => void,
): Promise<void> {
  const turn = await takeFeed(signal);
  if (!turn) return;
  for (let failures = 0; !signal.aborted;) {
    try {
      await readOnce(signal, (changes) => {
        failures = 0;
        heardAt = Date.now();
        tell({ type: "changes", cursor, changes });
        if (changes.length > 0) callback(changes, true);
      });
    } catch (error) {
      refused(error);
      // A service without the feed, or over its limit of streams: the page polls instead.
      if (error instanceof Refused) await pause(RETRY_MS, signal);
    }
    heardAt = 0;
    await pause(backoff(failures++), signal);
  }
  turn.release();
}

async function readOnce(signal: AbortSignal, hear: (changes: Change[]) => void): Promise<void> {
  const connection = new AbortController();
  const cut = () => connection.abort();
  signal.addEventListener("abort", cut);
  addEventListener("online", cut);
  let silence = setTimeout(cut, SILENCE_MS);
  try {
    const headers: Record<string, string> = {
      Authorization: `Bearer ${session.peek()?.token ?? ""}`,
      ...(cursor && { "Last-Event-ID": cursor }),
    };
    const response = await fetch(`${config.api}/api/changes`, {
      headers,
      signal: connection.signal,
    });
    if (!response.ok) throw await Refused.from(response);
    for await (const events of batches(bodyOf(response))) {
      clearTimeout(silence);
      silence = setTimeout(cut, SILENCE_MS);
      if (signal.aborted) return;
      cursor = events.at(-1)?.[0] ?? cursor;
      hear(events.map(([, event]) => event as unknown as Change));
    }
  } finally {
    clearTimeout(silence);
    signal.removeEventListener("abort", cut);
    removeEventListener("online", cut);
    cut();
  }
}
