// Which tab may hold a stream open. Over HTTP/1.1 a browser opens six connections to a host, for all
// its tabs together. Six streams would leave none for any other request, a stop among them.

import { tellAll } from "./tabs";

/**
 * Streams that all tabs together hold open; one more connection is for short looks, and one for the
 * change feed.
 */
const MOST_STREAMS = 3;
const MUTEX = "samosachaat.turns";
const FEED = "samosachaat.feed";
const LOOK = "samosachaat.look";
const STREAM = "samosachaat.stream.";

export interface Turn {
  /** Aborted when another tab has taken it away. */
  lost: AbortSignal;
  release: () => void;
}

/** Browsers have the locks in secure contexts only. Elsewhere only visibility limits the streams. */
const locks = (navigator as { locks?: LockManager }).locks;

/**
 * The right to hold the stream of this conversation. Without it: whether another tab holds the
 * stream of the same conversation ("shared"), or enough others are open ("full"). With `insist` it
 * is taken from another tab if need be.
 */
export async function takeTurn(id: string, insist: boolean): Promise<Turn | "shared" | "full"> {
  if (!locks) return unlimited();
  const name = STREAM + id;
  return locks.request(MUTEX, async () => {
    const held = (await locks.query()).held ?? [];
    const streams = held.map((lock) => lock.name ?? "").filter((lock) => lock.startsWith(STREAM));
    const shared = streams.includes(name);
    if (!insist && shared) return "shared";
    if (!shared && streams.length >= MOST_STREAMS) {
      if (!insist) return "full";
      await locks.request(streams[0]!, { steal: true }, () => undefined);
    }
    const options = insist ? { steal: true } : { ifAvailable: true };
    return (await hold(locks, name, options, () => tellAll({ type: "free" }))) ?? "shared";
  });
}

/** The right to poll a stream once; waits until no other tab does. */
export async function takeLook(signal: AbortSignal): Promise<Turn | undefined> {
  return locks ? hold(locks, LOOK, { signal }) : unlimited();
}

/** The right to read the change feed, as soon as no other tab does; without locks, never. */
export async function takeFeed(signal: AbortSignal): Promise<Turn | undefined> {
  return locks && hold(locks, FEED, { signal });
}

/** The lock; undefined if it is not available, or `options.signal` was aborted before. */
function hold(
  locks: LockManager,
  name: string,
  options: LockOptions,
  released: () => void = () => undefined,
): Promise<Turn | undefined> {
  return new Promise((resolve) => {
    const lost = new AbortController();
    const request = locks.request(name, options, (lock) => {
      if (!lock) return resolve(undefined);
      return new Promise<void>((release) => resolve({ lost: lost.signal, release }));
    });
    request.then(released, () => {
      lost.abort();
      resolve(undefined);
    });
  });
}

function unlimited(): Turn {
  return { lost: new AbortController().signal, release: () => undefined };
}
