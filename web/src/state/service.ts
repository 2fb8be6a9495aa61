// The state of the connection to the API.

import { signal } from "@preact/signals";
import { Api, Unreachable } from "../api";
import type { Config } from "../config";
import { backoff, pause, Refused } from "../stream";
import { announce } from "./say";
import { expired, session } from "./session";
import { texts } from "../texts";

const SECOND_LOOK_MS = 1_500;

export let config: Config;
export let api: Api;

/** Set while the service cannot be reached: when it is tried again (ms since 1970). */
export const lost = signal<number | undefined>(undefined);

const found = new Set<() => void>();

export function configure(given: Config): void {
  config = given;
  api = new Api(
    given.api,
    () => session.peek()?.token ?? "",
    (error) => {
      if (error instanceof Unreachable) void suspect();
      else refused(error);
    },
  );
  addEventListener("offline", () => {
    void suspect();
    // A request at the moment of the event may still succeed.
    setTimeout(suspect, SECOND_LOOK_MS);
  });
}

/** A refusal may mean that the sign-in is over. */
export function refused(error: unknown): void {
  if (error instanceof Refused && error.status === 401 && session.peek()) expired.value = true;
}

/** Calls back each time the service is reachable again. Returns a function that ends that. */
export function onFound(callback: () => void): () => void {
  found.add(callback);
  return () => found.delete(callback);
}

/** Ends all waiting, here and in stream.ts, at the user's request. */
export function tryNow(): void {
  dispatchEvent(new Event("online"));
}

let probing = false;

/** After a failed request: checks the service, shows that it is unreachable, and retries. */
export async function suspect(): Promise<void> {
  if (probing) return;
  probing = true;
  const forever = new AbortController().signal;
  for (let failures = 0; !(await api.reachable()); failures++) {
    const wait = backoff(failures);
    lost.value = Date.now() + wait;
    await pause(wait, forever);
  }
  probing = false;
  if (lost.peek() === undefined) return;
  lost.value = undefined;
  announce(texts.peek().page.connected);
  tryNow();
  for (const callback of [...found]) callback();
}
