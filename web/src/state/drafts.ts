// What has been typed and not been sent, one draft per conversation, and what was sent but not yet
// confirmed. Both outlive a reload, a crash and the end of a sign-in.

import { personal } from "./session";
import { read, write } from "./storage";

/** A message being sent. It is kept until `start` arrives. */
export interface Pending {
  /** The Idempotency-Key: sending it again with this joins, and never doubles. */
  key: string;
  body: { content: string } & Record<string, unknown>;
  sentAt: number;
  /** The last message that was known when it was sent. */
  after?: string | undefined;
}

/** A message that may not have been sent: the user decides what happens to it. */
export interface Unsent extends Pending {
  problem: string;
}

/** An Idempotency-Key; `crypto.randomUUID` is not there without https. */
export function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** `id` undefined: of the conversation that does not exist yet. */
export function draftName(id: string | undefined): string {
  return `${personal("draft")}.${id ?? "new"}`;
}

export function readDraft(id: string | undefined): string {
  return read<string>(draftName(id)) ?? "";
}

export function writeDraft(id: string | undefined, text: string): void {
  write(draftName(id), text === "" ? undefined : text);
}

export function readPending(id: string): Pending | undefined {
  return read<Pending>(`${personal("pending")}.${id}`);
}

export function writePending(id: string, pending: Pending | undefined): void {
  write(`${personal("pending")}.${id}`, pending);
}

export function readUnsent(id: string): Unsent[] {
  return read<Unsent[]>(`${personal("unsent")}.${id}`) ?? [];
}

export function writeUnsent(id: string, unsent: Unsent[]): void {
  write(`${personal("unsent")}.${id}`, unsent.length > 0 ? unsent : undefined);
}
