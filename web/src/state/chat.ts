// One open conversation: its messages, the question on its way, the answer being written.

import { batch, computed, signal } from "@preact/signals";
import type { Message } from "../api";
import {
  type Answer,
  pause,
  type Question,
  readAnswer,
  Refused,
  type Start,
  type Status,
} from "../stream";
import * as conversations from "./conversations";
import { newKey, type Pending, readDraft, readPending, writeDraft, writePending } from "./drafts";
import * as models from "./models";
import { chosen } from "./preferences";
import { openId } from "./router";
import { announce, toast } from "./say";
import { api, config, refused, suspect } from "./service";
import { session } from "./session";
import { tell } from "./tabs";

/** A message, and what is known of it here only. */
export type Shown = Message & { notice?: string };

/** The answer being written. */
export interface Live {
  answer: Answer;
  /** Text from before the connection: shown until the stream has caught up with it. */
  seed: string;
  /** The old answer whose place it takes. */
  replaces?: string | undefined;
  stopping?: boolean;
}

const PAGE = 60;
/** After that, a message that was not confirmed is not sent again without being asked for. */
const SEND_AGAIN_MS = 10 * 60_000;
/** So long after a stop, the stream should have brought the end. */
const STOP_MS = 3_000;
const HIDDEN_FRAME_MS = 250;

export class Chat {
  readonly messages = signal<Shown[]>([]);
  readonly loaded = signal(false);
  readonly problem = signal<{ text: string; gone: boolean } | undefined>(undefined);
  readonly nextBefore = signal<string | null>(null);
  readonly pending = signal<Pending | undefined>(undefined);
  readonly live = signal<Live | undefined>(undefined);
  readonly answering = computed(
    () => this.live.value !== undefined || (this.pending.value && !this.pending.value.problem),
  );

  private reading: AbortController | undefined;
  /** Somebody looks at it. */
  private looked = true;
  private latest: Answer | undefined;
  private refreshing: Promise<void> | undefined;
  /** A frame is on its way. */
  private frame = false;

  constructor(readonly id: string) {}

  /** Shows what there is: also after a reload, and when somebody comes back. */
  async open(): Promise<void> {
    this.looked = true;
    const pending = readPending(this.id);
    if (pending && !this.pending.peek()) {
      const old = Date.now() - pending.sentAt > SEND_AGAIN_MS;
      this.pending.value =
        old && !pending.problem
          ? { ...pending, problem: "It is not known whether this was sent." }
          : pending;
    }
    await this.refresh();
  }

  /** Leaves the answer running, and stops reading it; once a question on its way has arrived. */
  leave(): void {
    this.looked = false;
    const pending = this.pending.peek();
    if (!pending || pending.problem) this.drop();
  }

  /** Stops reading. */
  drop(): void {
    this.reading?.abort();
    this.reading = undefined;
    this.live.value = undefined;
  }

  /** Reads the conversation anew, and joins the answer that is being written, if any. */
  refresh(): Promise<void> {
    this.refreshing ??= this.load().finally(() => {
      this.refreshing = undefined;
    });
    return this.refreshing;
  }

  private async load(): Promise<void> {
    try {
      const opened = await api.open(this.id, { limit: PAGE });
      if (this.isOlderThanTheAnswer(opened.messages)) return;
      const first = opened.messages[0]?.id;
      const before = this.messages.peek();
      const known = new Map(before.map((message) => [message.id, message]));
      const overlap = before.findIndex((message) => message.id === first);
      const page = opened.messages.map((message) => merged(message, known.get(message.id)));
      batch(() => {
        this.messages.value = overlap > 0 ? [...before.slice(0, overlap), ...page] : page;
        if (overlap <= 0) this.nextBefore.value = opened.next_before;
        this.loaded.value = true;
        this.problem.value = undefined;
      });
      conversations.put(opened);
    } catch (error) {
      refused(error);
      if (error instanceof Refused && error.status === 404) this.vanish();
      else if (!this.loaded.peek()) {
        this.problem.value = { text: (error as Error).message, gone: false };
      }
      return;
    }
    if (this.reading || openId.peek() !== this.id) return;
    const pending = this.pending.peek();
    if (pending && !pending.problem) void this.ask(pending);
    else void this.read();
  }

  /** Asked for before the answer began that is being read: of no use any more. */
  private isOlderThanTheAnswer(messages: Message[]): boolean {
    const start = this.reading && this.latest?.start;
    if (!start) return false;
    return !messages.some(({ id }) => id === start.message_id || id === start.user_message_id);
  }

  async loadEarlier(): Promise<void> {
    const before = this.nextBefore.peek();
    if (before === null) return;
    this.nextBefore.value = null;
    try {
      const opened = await api.open(this.id, { limit: PAGE, before });
      batch(() => {
        this.messages.value = [...opened.messages, ...this.messages.peek()];
        this.nextBefore.value = opened.next_before;
      });
    } catch (error) {
      refused(error);
      this.nextBefore.value = before;
    }
  }

  /** Sends a message. It is kept until the service has confirmed it. */
  send(content: string): void {
    const key = newKey();
    void this.ask({ key, body: { content, ...chosen() }, sentAt: Date.now() });
  }

  /** Sends again what was not sent, or perhaps was: the same key makes that harmless. */
  sendAgain(): void {
    const { key, body } = this.pending.peek()!;
    void this.ask({ key, body, sentAt: Date.now() });
  }

  /** Gives up what was not sent; `edit` puts its text back to where it was typed. */
  discard(edit: boolean): void {
    if (edit) writeDraft(this.id, this.pending.peek()!.body.content);
    this.keep(undefined);
  }

  /** Has the last answer written anew. */
  regenerate(): void {
    const replaces = this.messages.peek().findLast((message) => message.role === "assistant")?.id;
    const last = this.messages.peek().at(-1);
    const question: Question = { path: "regenerate", body: chosen(), key: newKey() };
    void this.read(question, last?.id === replaces ? replaces : undefined);
  }

  async stop(): Promise<void> {
    const live = this.live.peek();
    if (live) this.live.value = { ...live, stopping: true };
    announce("Stopping");
    const begun = this.latest?.start !== undefined;
    const kept = this.pending.peek();
    const pending = kept?.problem ? undefined : kept;
    if (!begun) this.drop();
    if (pending) this.keep({ ...pending, problem: "Stopped before it was sent." });
    try {
      await api.stop(this.id);
    } catch (error) {
      refused(error);
      const now = this.live.peek();
      if (now) {
        this.live.value = { ...now, stopping: false };
        toast(`Not stopped: ${(error as Error).message}`);
        return;
      }
    }
    const reading = this.reading;
    if (begun) await pause(STOP_MS, reading?.signal ?? AbortSignal.abort());
    // The stream has brought the end by now, unless its connection is dead.
    if (begun && (this.reading !== reading || !reading)) return;
    this.drop();
    const known = new Set(this.messages.peek().map((message) => message.id));
    await this.refresh();
    if (!pending || this.pending.peek()?.key !== pending.key) return;
    const arrived = this.messages
      .peek()
      .some(
        ({ id, role, content }) =>
          !known.has(id) && role === "user" && content === pending.body.content,
      );
    if (arrived) this.keep(undefined);
  }

  private async ask(pending: Pending): Promise<void> {
    this.keep(pending);
    await this.read({ path: "messages", body: pending.body, key: pending.key });
  }

  private keep(pending: Pending | undefined): void {
    this.pending.value = pending;
    writePending(this.id, pending);
  }

  /** Reads one answer to its end: to that question, or the one being written, if any. */
  private async read(question?: Question, replaces?: string): Promise<void> {
    this.drop();
    const reading = new AbortController();
    this.reading = reading;
    this.latest = undefined;
    const running = this.messages.peek().findLast((message) => message.status === "generating");
    if (question || running) {
      this.live.value = { answer: { text: "" }, seed: running?.content ?? "", replaces };
    }
    const source = { url: config.api, token: session.peek()?.token ?? "", conversationId: this.id };
    try {
      for await (const answer of readAnswer(source, question, reading.signal)) {
        const id = answer.start?.message_id;
        const before = this.latest as Answer | undefined;
        if (id !== undefined && id !== before?.start?.message_id)
          await this.begin(answer.start!, question);
        if (!this.looked && this.pending.peek() === undefined) this.drop();
        if (reading.signal.aborted) return;
        if (answer.waiting && !answer.waiting.refusal) void suspect();
        this.show(answer);
      }
      if (reading.signal.aborted) return;
      this.reading = undefined;
      await this.end(this.latest);
    } catch (error) {
      if (reading.signal.aborted) return;
      this.reading = undefined;
      this.refuse(error, question);
    }
  }

  /** An answer has begun: make a place for it. */
  private async begin(start: Start, question: Question | undefined): Promise<void> {
    const has = (id: string) => this.messages.peek().some((message) => message.id === id);
    const pending = this.pending.peek();
    if (question?.path === "messages" && pending) {
      const { content } = pending.body;
      if (!has(start.user_message_id)) {
        this.append({ id: start.user_message_id, role: "user", content });
      }
      this.keep(undefined);
    }
    if (!has(start.user_message_id)) await this.refresh(); // asked on another device
    const messages = this.messages.peek();
    let replaces: string | undefined;
    if (!has(start.message_id)) {
      const at = messages.findIndex(({ id }) => id === start.user_message_id);
      replaces = messages[at + 1]?.id;
      if (!replaces) this.append({ id: start.message_id, role: "assistant", status: "generating" });
    }
    const live = this.live.peek();
    this.live.value = { answer: { text: "" }, seed: live?.seed ?? "", replaces };
    announce("Answering");
    tell({ type: "conversation", id: this.id });
    void conversations.refresh();
  }

  private append(fields: Pick<Message, "id" | "role"> & Partial<Message>): void {
    const message: Message = {
      conversation_id: this.id,
      content: "",
      status: "complete",
      token_count: 0,
      inference_time_ms: 0,
      model_tag: models.current.peek() ?? "",
      created_at: new Date().toISOString(),
      ...fields,
    };
    this.messages.value = [...this.messages.peek(), message];
  }

  /** Puts the newest state on the screen with the next frame. */
  private show(answer: Answer): void {
    this.latest = answer;
    if (this.frame) return;
    this.frame = true;
    onFrame(() => {
      this.frame = false;
      const live = this.live.peek();
      if (!live || !this.latest) return;
      const seed = this.latest.again || !live.seed.startsWith(this.latest.text) ? "" : live.seed;
      this.live.value = { ...live, seed, answer: this.latest };
    });
  }

  /** An answer has ended: put what was read in its place. */
  private async end(answer: Answer | undefined): Promise<void> {
    const done = answer?.done;
    const replaces = this.live.peek()?.replaces;
    if (!done) {
      // There is nothing to read: what there was has ended, and is in the conversation.
      const shown = this.live.peek() !== undefined;
      this.live.value = undefined;
      if (shown || this.messages.peek().some(({ status }) => status === "generating"))
        await this.refresh();
      return;
    }
    const { message_id: id, kept_message_id: kept, status, token_count, inference_time_ms } = done;
    const place = kept ?? replaces ?? id;
    if (!this.messages.peek().some((message) => message.id === place)) await this.refresh();
    const detail = answer.error?.detail;
    const written = { id, content: answer.text, status, token_count, inference_time_ms };
    batch(() => {
      this.messages.value = this.messages.peek().map((message): Shown => {
        if (message.id !== place) return message;
        if (kept === undefined) return withNotice({ ...message, ...written }, detail);
        // Of one failure after the other, the newest reason is the one to know.
        return withNotice(message, message.status === "failed" ? detail : ofKept(status, detail));
      });
      this.live.value = undefined;
    });
    announce(kept === undefined ? ENDINGS[status] : ofKept(status, detail));
    tell({ type: "conversation", id: this.id });
    void conversations.refresh();
  }

  /** It was deleted elsewhere. What was written for it goes to where a new one begins. */
  private vanish(): void {
    this.drop();
    if (this.problem.peek()?.gone) return;
    const written = [this.pending.peek()?.body.content ?? "", readDraft(this.id)].filter(Boolean);
    if (written.length > 0) {
      writeDraft(undefined, [readDraft(undefined), ...written].filter(Boolean).join("\n\n"));
      writeDraft(this.id, "");
      this.keep(undefined);
    }
    const kept = written.length > 0 ? " What you have written waits in a new one." : "";
    this.problem.value = { text: `This conversation is no longer there.${kept}`, gone: true };
    void conversations.refresh();
  }

  private refuse(error: unknown, question: Question | undefined): void {
    this.live.value = undefined;
    refused(error);
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) return; // goes on after the sign-in
    const pending = this.pending.peek();
    if (error.status === 404) {
      this.vanish();
    } else if (error.code === "answer_gone") {
      this.keep(undefined);
      void this.refresh();
    } else if (question?.path === "messages" && pending) {
      this.keep({ ...pending, problem: error.message });
      announce(`Not sent. ${error.message}`);
      if (error.status === 409) void this.refresh();
    } else if (question) {
      const last = this.messages.peek().at(-1);
      if (last) {
        this.messages.value = [
          ...this.messages.peek().slice(0, -1),
          withNotice(last, error.message),
        ];
      }
      if (error.status === 409) void this.refresh();
    }
  }
}

const ENDINGS: Record<Status, string> = {
  complete: "Answer complete",
  stopped: "Answer stopped",
  interrupted: "Answer interrupted",
  failed: "Answer failed",
};

function ofKept(status: Status, detail: string | undefined): string {
  const how = status === "stopped" ? "was stopped" : "did not get to its end";
  return `The new answer ${how}${detail ? ` (${detail})` : ""}; this is the one from before.`;
}

function withNotice(message: Message & { notice?: string }, notice: string | undefined): Shown {
  const { notice: _, ...plain } = message;
  return notice === undefined ? plain : { ...plain, notice };
}

/** The message as the service has it; the very object that was there if nothing has changed. */
function merged(message: Message, before: Shown | undefined): Shown {
  if (before?.status === message.status && before.content === message.content) return before;
  return withNotice(message, before?.notice);
}

/** With the next frame; in a hidden tab, which has none, a little later. */
function onFrame(callback: () => void): void {
  if (document.hidden) setTimeout(callback, HIDDEN_FRAME_MS);
  else requestAnimationFrame(callback);
}
