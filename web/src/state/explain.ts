// Error messages in the language of the interface.

import { Refused, Unreadable } from "../stream";
import { texts } from "../texts";
import type { Refusal } from "../texts/en";

/** The error as a sentence for the user. */
export function explain(error: unknown): string {
  if (error instanceof Unreadable) return texts.value.service.unreadable;
  const { message } = error as Error;
  return error instanceof Refused ? sentence(error.code, message, error.retryAfterMs) : message;
}

/** The sentence for an error code; the service's own, in English, if there is none. */
export function sentence(code: string, said: string, retryAfterMs = 0): string {
  const { refusals, comeBack } = texts.value.service;
  const known = refusals[code as Refusal];
  if (known === undefined) return said;
  const minutes = Math.ceil(retryAfterMs / 60_000);
  return minutes > 0 ? `${known} ${comeBack(minutes)}` : known;
}
