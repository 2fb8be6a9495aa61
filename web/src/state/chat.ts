// One open conversation: its messages, the question being sent, the running answer.

import { batch, computed, signal } from "@preact/signals";
import type { Message, Opened } from "../api";
import {
  type Answer,
  pause,
  type Question,
  Refused,
  type Start,
  type Status,
  Unreadable,
} from "../stream";
import * as conversations from "./conversations";
import {
  newKey,
  type Pending,
  readDraft,
  readPending,
  readUnsent,
  type Unsent,
  writeDraft,
  writePending,
  writeUnsent,
} from "./drafts";
import { away, follow } from "./follow";
import { markSeen } from "./marks";
import * as models from "./models";
import { chosen } from "./preferences";
import { openId } from "./router";
import { announce, toast } from "./say";
import { api, config, lost, refused, suspect } from "./service";
import { expired, session } from "./session";
import { tell } from "./tabs";
import { number, texts } from "../texts";
import { explain, sentence } from "./explain";

/** A message, and its local state. */
export type Shown = Message & { notice?: string };

/** The running answer. */
export interface Live {
  answer: Answer;
  /** Text from before the connection: shown until the stream has caught up with it. */
  seed: string;
  /** The old answer that it replaces. */
  replaces?: string | undefined;
  stopping?: boolean;
  /** The stream delivers nothing, but the service has more of the answer. */
  held?: boolean;
}

const PAGE = 60;
/** How many messages show the state of the newest answer. */
const GLANCE = 4;
/** After that, an unconfirmed message is only sent again at the user's request. */
const SEND_AGAIN_MS = 10 * 60_000;
/** The time after a stop within which the stream should have ended. */
const STOP_MS = 3_000;
const HIDDEN_FRAME_MS = 250;
/** Without `start` within this time, a proxy may be buffering the stream. */
const START_MS = 5_000;
/** The same for one that has begun, in which a heartbeat comes every 15 seconds. */
const HEARTBEAT_MS = 20_000;
const LOOK_MS = 5_000;

export class Chat {
  readonly messages = signal<Shown[]>([]);
  readonly loaded = signal(false);
  readonly problem = signal<{ text: string; gone: boolean } | undefined>(undefined);
  readonly nextBefore = signal<string | null>(null);
  /** The message being sent. */
  readonly pending = signal<Pending | undefined>(undefined);
  readonly unsent = signal<Unsent[]>([]);
  readonly live = signal<Live | undefined>(undefined);
  /** Why the running answer cannot be read. It is only joined again at the user's request. */
  readonly trouble = signal("");
  readonly answering = computed(() => Boolean(this.live.value ?? this.pending.value));

  private reading: AbortController | undefined;
  /** Whether it is visible. */
  private looked = true;
  private latest: Answer | undefined;
  /** When the stream last delivered bytes, including heartbeats. */
  private heardAt = 0;
  private refreshing: Promise<void> | undefined;
  /** It has changed since the request that is under way. */
  private stale = false;
  /** It has changed while an answer was read here. */
  private behind = false;
  /** Whether an animation frame is requested. */
  private frame = false;

  constructor(readonly id: string) {}

  /** Shows the conversation: when it is opened, after a reload, and on return to it. */
  async open(): Promise<void> {
    this.looked = true;
    const pending = readPending(this.id);
    if (!this.pending.peek()) {
      this.unsent.value = readUnsent(this.id);
      if (pending && Date.now() - pending.sentAt > SEND_AGAIN_MS)
        this.setAside(pending, texts.peek().messages.notKnown);
      else this.pending.value = pending;
    }
    await this.refresh();
  }

  /** Stops reading, once a question being sent has arrived; the answer continues. */
  leave(): void {
    this.looked = false;
    if (!this.pending.peek()) this.drop();
  }

  /** Stops reading. */
  drop(): void {
    this.reading?.abort();
    this.reading = undefined;
    this.live.value = undefined;
  }

  /**
   * Reads the conversation again, and joins the running answer, if any. One request at a time: if
   * one is under way, which may have been answered before the last change, another one follows it.
   */
  refresh(limit = PAGE): Promise<void> {
    if (this.refreshing) this.stale = true;
    this.refreshing ??= this.load(limit).finally(() => {
      this.refreshing = undefined;
      if (!this.stale) return;
      this.stale = false;
      return this.refresh();
    });
    return this.refreshing;
  }

  /** Reads the conversation, which has changed elsewhere, at the end of the answer read here. */
  catchUp(): void {
    this.behind = this.answering.peek();
    if (!this.behind) void this.refresh();
  }

  /** After `trouble`. */
  retry(): void {
    this.trouble.value = "";
    void this.refresh();
  }

  private async load(limit: number): Promise<void> {
    try {
      const opened = await api.open(this.id, { limit });
      if (this.isOlderThanTheAnswer(opened.messages)) return;
      this.take(opened);
    } catch (error) {
      refused(error);
      if (isGone(error)) this.vanish();
      else if (!this.loaded.peek()) {
        this.problem.value = { text: explain(error), gone: false };
      }
      return;
    }
    if (this.reading || openId.peek() !== this.id) return;
    if (!this.running()) this.trouble.value = "";
    if (this.trouble.peek()) return;
    const pending = this.pending.peek();
    if (pending) void this.ask(pending);
    else void this.read();
  }

  /** Shows the service's state. */
  private take(opened: Opened): void {
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
      this.reconcile();
    });
    conversations.put(opened);
  }

  /** Requested before the answer began that is being read, and therefore outdated. */
  private isOlderThanTheAnswer(messages: Message[]): boolean {
    const start = this.reading && this.latest?.start;
    if (!start) return false;
    return !messages.some(({ id }) => id === start.message_id || id === start.user_message_id);
  }

  /** Messages that the service has are neither being sent nor unsent. */
  private reconcile(): void {
    const messages = this.messages.peek();
    const arrived = ({ after, body }: Pending) => {
      const at = messages.findIndex(({ id }) => id === after);
      if (after !== undefined && at < 0) return false;
      if (isEdit(body)) return messages[at + 1]?.content === body.content;
      return messages
        .slice(at + 1)
        .some(({ role, content }) => role === "user" && content === body.content);
    };
    const pending = this.pending.peek();
    if (pending && arrived(pending)) this.keep(undefined);
    const unsent = this.unsent.peek();
    if (unsent.some(arrived)) this.keepUnsent(unsent.filter((one) => !arrived(one)));
  }

  /** Whether the message is known here, with this status. */
  knows(id: string, status: string): boolean {
    return this.messages.peek().some((message) => message.id === id && message.status === status);
  }

  private running(): Shown | undefined {
    return this.messages.peek().findLast((message) => message.status === "generating");
  }

  async loadEarlier(): Promise<void> {
    const before = this.nextBefore.peek();
    if (before === null) return;
    this.nextBefore.value = null;
    const first = this.messages.peek()[0]?.id;
    try {
      const opened = await api.open(this.id, { limit: PAGE, before });
      if (this.messages.peek()[0]?.id !== first) return; // another path is shown by now
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
    if (this.answering.peek()) return;
    const after = this.messages.peek().at(-1)?.id;
    void this.ask({
      key: newKey(),
      body: { content, ...this.options() },
      sentAt: Date.now(),
      after,
    });
  }

  /** The options of an answer, as fields of a request. */
  private options(): Record<string, unknown> {
    const own = Object.entries(conversations.conversation(this.id)?.options ?? {});
    const set = new Set(own.flatMap(([name, value]) => (value === null ? [] : [name])));
    // The conversation's options override the general ones.
    const general = Object.entries(chosen()).filter(([name]) => !set.has(name));
    return { ...Object.fromEntries(general), ...models.forAnswer(this.id) };
  }

  /** Sends a message again that may have been sent: the same key makes that harmless. */
  sendAgain({ key, body, after }: Unsent): void {
    if (this.answering.peek()) return;
    this.keepUnsent(this.unsent.peek().filter((one) => one.key !== key));
    void this.ask({ key, body, sentAt: Date.now(), after });
  }

  /** Discards an unsent message; `edit` returns its text to the composer. */
  discard({ key, body }: Unsent, edit: boolean): void {
    const draft = readDraft(this.id).trim();
    if (edit) writeDraft(this.id, draft ? `${body.content}\n\n${draft}` : body.content);
    this.keepUnsent(this.unsent.peek().filter((one) => one.key !== key));
  }

  /** Sends another text in the place of a message, which stays as a version. */
  edit(message: Message, content: string): void {
    if (this.isBusy() || content === message.content) return;
    const { parent_id } = message;
    const body = { content, parent_id, ...this.options() };
    void this.ask({ key: newKey(), body, sentAt: Date.now(), after: parent_id ?? undefined });
  }

  /** Regenerates an answer, the last one if none is named. */
  regenerate(answer?: Message, model?: string): void {
    if (this.isBusy()) return;
    const replaces = this.messages.peek().findLast((message) => message.role === "assistant")?.id;
    const last = this.messages.peek().at(-1);
    const place = answer?.id ?? (last?.id === replaces ? replaces : undefined);
    const body = {
      ...this.options(),
      ...(answer && answer !== last && { message_id: answer.id }),
      ...(model !== undefined && { model_tag: model }),
    };
    void this.read({ path: "regenerate", body, key: newKey() }, place);
  }

  /** Shows the version of a message that has this number. */
  async showVersion(message: Message, version: number): Promise<void> {
    if (this.isBusy()) return;
    try {
      let before: string | null | undefined;
      let wanted: Message | undefined;
      do {
        const page = await api.versions(this.id, message.id, before ?? undefined);
        wanted = page.items.find((one) => one.version === version);
        before = page.next_before;
      } while (!wanted && before !== null);
      if (wanted) this.take(await api.show(this.id, wanted.id));
      // Not overwritten by an older state that is still to come.
      if (!wanted || this.refreshing) await this.refresh();
      announce(texts.peek().messages.version(number(version), number(message.versions)));
      tell({ type: "conversation", id: this.id });
    } catch (error) {
      refused(error);
      toast(texts.peek().messages.notShown(explain(error)));
    }
  }

  /** Shows the path through a message that a search has found, unless it is shown. */
  async showFound(message: string): Promise<void> {
    try {
      await this.refreshing;
      const { items } = await api.versions(this.id, message);
      if (!items.some((one) => one.id === message && !one.shown)) return;
      this.take(await api.show(this.id, message));
      tell({ type: "conversation", id: this.id });
    } catch (error) {
      refused(error);
      toast(texts.peek().messages.notShown(explain(error)));
    }
  }

  /** Deletes a message and what follows it; whether it was deleted. */
  async delete(message: Message): Promise<boolean> {
    if (this.isBusy()) return false;
    try {
      await api.deleteMessage(this.id, message.id);
    } catch (error) {
      refused(error);
      toast(texts.peek().messages.notDeleted(explain(error)));
      return false;
    }
    announce(texts.peek().messages.deleted);
    await this.refresh();
    tell({ type: "conversation", id: this.id });
    return true;
  }

  private isBusy(): boolean {
    if (!this.answering.peek()) return false;
    toast(texts.peek().messages.busy);
    return true;
  }

  /** Continues the last answer after an early end. */
  goOn(): void {
    const last = this.messages.peek().at(-1);
    if (this.answering.peek() || last?.role !== "assistant") return;
    const question: Question = { path: "continue", body: chosen(), key: newKey() };
    void this.read(question, last.id, { text: last.content, continues: last.content });
  }

  async stop(): Promise<void> {
    const live = this.live.peek();
    if (live) this.live.value = { ...live, stopping: true };
    announce(texts.peek().answer.stoppingNow);
    if (this.latest?.start ?? this.running()) return this.stopBegun();
    // Being sent: it is stopped when it has begun (see `begin`), or discarded.
    const { reading } = this;
    if (!live?.answer.waiting) await pause(START_MS, reading?.signal ?? AbortSignal.abort());
    if (this.reading === reading && !this.latest?.start) await this.giveUp();
  }

  /** Stops a running answer: the service stops it, and the stream delivers its end. */
  private async stopBegun(): Promise<void> {
    try {
      await api.stop(this.id);
    } catch (error) {
      refused(error);
      const now = this.live.peek();
      if (!now) return;
      this.live.value = { ...now, stopping: false };
      toast(texts.peek().messages.notStopped(explain(error)));
      return;
    }
    const { reading } = this;
    await pause(STOP_MS, reading?.signal ?? AbortSignal.abort());
    // The stream has delivered the end by now, unless its connection is dead.
    if (!reading || this.reading !== reading) return;
    this.drop();
    await this.refresh();
  }

  /** Stops a message that may not have arrived. */
  private async giveUp(): Promise<void> {
    this.drop();
    const pending = this.pending.peek();
    if (pending) this.setAside(pending, texts.peek().messages.givenUp);
    await api.stop(this.id).catch(refused);
    await this.refresh();
  }

  private async ask(pending: Pending): Promise<void> {
    this.keep(pending);
    await this.read({ path: "messages", body: pending.body, key: pending.key });
  }

  private keep(pending: Pending | undefined): void {
    this.pending.value = pending;
    writePending(this.id, pending);
  }

  private keepUnsent(unsent: Unsent[]): void {
    this.unsent.value = unsent;
    writeUnsent(this.id, unsent);
  }

  private startOfLatest(): Start | undefined {
    return this.latest?.start;
  }

  /** It is only sent again at the user's request, and the next message may be sent. */
  private setAside(pending: Pending, problem: string): void {
    batch(() => {
      this.keepUnsent([...this.unsent.peek(), { ...pending, problem }]);
      this.keep(undefined);
    });
  }

  /** Reads one answer to its end: to that question, or the one being written, if any. */
  private async read(question?: Question, replaces?: string, begun?: Answer): Promise<void> {
    const before = this.live.peek();
    // Continues a reading that ended because the sign-in expired.
    const from = question || !before || this.latest?.done ? undefined : this.latest;
    this.drop();
    const reading = new AbortController();
    this.reading = reading;
    this.latest = from;
    const seed = this.running()?.content ?? "";
    if (from) this.live.value = { ...before!, seed: longer(before!.seed, seed) };
    else if (question ?? this.running()) {
      this.live.value = { answer: begun ?? { text: "" }, seed, replaces };
    }
    const source = {
      url: config.api,
      token: () => session.peek()?.token ?? "",
      conversationId: this.id,
    };
    const stopWatching = this.watch(reading, question);
    try {
      for await (const answer of follow(source, question, reading.signal, from ?? begun)) {
        const id = answer.start?.message_id;
        if (id !== undefined && id !== this.startOfLatest()?.message_id)
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
    } finally {
      stopWatching();
      if (this.behind && this.reading === undefined) this.catchUp();
    }
  }

  /**
   * Looks at the conversation itself while the stream brings nothing: a proxy may hold back a
   * response until it is complete. Returns what ends that.
   */
  private watch(reading: AbortController, question: Question | undefined): () => void {
    this.heardAt = Date.now();
    const timer = setInterval(() => {
      const most = this.latest?.start ? HEARTBEAT_MS : START_MS;
      const idle = away.peek() || lost.peek() !== undefined || expired.peek();
      if (Date.now() - this.heardAt < most || idle || !this.live.peek()) return;
      void this.look(reading, question);
    }, LOOK_MS);
    return () => clearInterval(timer);
  }

  private async look(reading: AbortController, question: Question | undefined): Promise<void> {
    const heard = this.latest;
    await this.refresh(GLANCE);
    const live = this.live.peek();
    if (this.reading !== reading || this.latest !== heard || !live) return;
    const running = this.running();
    if (running) {
      this.live.value = { ...live, seed: longer(live.seed, running.content), held: true };
    } else if (question?.path !== "regenerate" && !live.replaces && !this.pending.peek()) {
      // It has ended, and is among the messages.
      this.drop();
    }
  }

  /** Adds the message of an answer that has begun. */
  private async begin(start: Start, question: Question | undefined): Promise<void> {
    const has = (id: string) => this.messages.peek().some((message) => message.id === id);
    const pending = this.pending.peek();
    if (question?.path === "messages" && pending) {
      const { content } = pending.body;
      if (!has(start.user_message_id)) {
        const kept = withoutEdited(this.messages.peek(), pending);
        const versions = 1 + (this.messages.peek()[kept.length]?.versions ?? 0);
        this.messages.value = kept;
        const fields = { id: start.user_message_id, role: "user", content } as const;
        this.append({ ...fields, version: versions, versions });
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
    const { answer = { text: "" }, seed = "", stopping = false } = this.live.peek() ?? {};
    const { text, continues } = answer;
    const begun = continues === undefined ? { text: "" } : { text, continues };
    this.live.value = { answer: begun, seed, replaces, stopping };
    if (stopping) void this.stopBegun();
    else announce(texts.peek().answer.answering);
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
      model_tag: models.modelOf(this.id) ?? "",
      created_at: new Date().toISOString(),
      reasoning: null,
      finish_reason: null,
      usage: null,
      error: null,
      parent_id: this.messages.peek().at(-1)?.id ?? null,
      version: 1,
      versions: 1,
      ...fields,
    };
    this.messages.value = [...this.messages.peek(), message];
  }

  /** Shows the newest state with the next frame. */
  private show(answer: Answer): void {
    this.latest = answer;
    this.heardAt = Date.now();
    if (this.frame) return;
    this.frame = true;
    onFrame(() => {
      this.frame = false;
      const live = this.live.peek();
      if (!live || !this.latest) return;
      const seed = this.latest.again || !live.seed.startsWith(this.latest.text) ? "" : live.seed;
      this.live.value = { ...live, seed, answer: this.latest, held: false };
    });
  }

  /** Replaces the running answer by the ended one. */
  private async end(answer: Answer | undefined): Promise<void> {
    const done = answer?.done;
    const replaces = this.live.peek()?.replaces;
    if (!done) {
      // Nothing to read: the answer has ended and is in the conversation.
      const shown = this.live.peek() !== undefined;
      this.live.value = undefined;
      if (shown || this.messages.peek().some(({ status }) => status === "generating"))
        await this.refresh();
      return;
    }
    const { message_id: id, kept_message_id: kept, status, token_count, inference_time_ms } = done;
    const place = kept ?? replaces ?? id;
    if (!this.messages.peek().some((message) => message.id === place)) await this.refresh();
    const detail = answer.error && sentence(answer.error.code, answer.error.detail);
    const written = {
      id,
      content: answer.text,
      reasoning: answer.reasoning || null,
      status,
      token_count,
      inference_time_ms,
      finish_reason: done.finish_reason ?? null,
      usage: done.usage ?? null,
    };
    batch(() => {
      this.messages.value = this.messages.peek().map((message): Shown => {
        if (message.id !== place) return message;
        const model_tag = done.model_tag ?? message.model_tag;
        if (kept === undefined) return withNotice({ ...message, ...written, model_tag }, detail);
        // After several failures, the newest reason is shown.
        return withNotice(message, message.status === "failed" ? detail : ofKept(status, detail));
      });
      this.live.value = undefined;
    });
    markSeen(this.id, id);
    announce(kept === undefined ? texts.peek().answer.ends[status] : ofKept(status, detail));
    // The old answer has become a version, and what followed it is hidden.
    if (replaces !== undefined && kept === undefined) void this.refresh();
    tell({ type: "conversation", id: this.id });
    void conversations.refresh();
  }

  /** It was deleted elsewhere. Its draft moves to the new conversation. */
  private vanish(): void {
    this.drop();
    if (this.problem.peek()?.gone) return;
    const unsent = [this.pending.peek(), ...this.unsent.peek()];
    const written = [...unsent.map((one) => one?.body.content ?? ""), readDraft(this.id)].filter(
      Boolean,
    );
    if (written.length > 0) {
      writeDraft(undefined, [readDraft(undefined), ...written].filter(Boolean).join("\n\n"));
      writeDraft(this.id, "");
      this.keep(undefined);
      this.keepUnsent([]);
    }
    const { gone, goneButKept } = texts.peek().messages;
    this.problem.value = { text: written.length > 0 ? `${gone} ${goneButKept}` : gone, gone: true };
    void conversations.refresh();
  }

  private refuse(error: unknown, question: Question | undefined): void {
    refused(error);
    // The text read so far stays visible; reading continues after the sign-in.
    if (error instanceof Refused && error.status === 401) return;
    this.keepRead();
    this.live.value = undefined;
    const pending = this.pending.peek();
    const detail =
      error instanceof Refused || error instanceof Unreadable
        ? explain(error)
        : texts.peek().messages.failed;
    if (!(error instanceof Refused)) {
      if (!(error instanceof Unreadable)) reportError(error);
      if (pending) this.setAside(pending, `${texts.peek().messages.notKnown} ${detail}`);
      this.trouble.value = detail;
      announce(detail);
    } else if (isGone(error)) {
      this.vanish();
    } else if (error.code === "answer_gone") {
      this.keep(undefined);
      void this.refresh();
    } else if (question?.path === "messages" && pending) {
      this.setAside(pending, detail);
      announce(texts.peek().messages.notSent(detail));
      if (error.status === 409) void this.refresh();
    } else if (question) {
      this.note(detail);
      if (error.status === 409) void this.refresh();
    } else if (this.running()) {
      this.trouble.value = detail;
    }
  }

  /** Keeps the text of a running answer visible without its stream. */
  private keepRead(): void {
    const { start, text = "" } = this.latest ?? {};
    this.messages.value = this.messages.peek().map((message) => {
      const longer = text.length > message.content.length;
      return message.id === start?.message_id && longer ? { ...message, content: text } : message;
    });
  }

  /** Shows a note beside the last message. */
  private note(notice: string): void {
    const last = this.messages.peek().at(-1);
    if (!last) return;
    this.messages.value = [...this.messages.peek().slice(0, -1), withNotice(last, notice)];
    announce(notice);
  }
}

/** Whether the API itself says that there is no such conversation; a proxy's 404 says nothing. */
function isGone(error: unknown): boolean {
  return error instanceof Refused && error.status === 404 && error.code === "not_found";
}

function isEdit(body: Pending["body"]): boolean {
  return "parent_id" in body;
}

/** The messages without the one that is being edited, and what follows it. */
export function withoutEdited(messages: Shown[], pending: Pending | undefined): Shown[] {
  if (!pending || !isEdit(pending.body)) return messages;
  const parent = pending.body["parent_id"];
  return messages.slice(0, messages.findIndex(({ id }) => id === parent) + 1);
}

function longer(one: string, other: string): string {
  return other.length > one.length ? other : one;
}

function ofKept(status: Status, detail: string | undefined): string {
  const { keptStopped, keptIncomplete, kept } = texts.peek().answer;
  return [status === "stopped" ? keptStopped : keptIncomplete, detail, kept]
    .filter(Boolean)
    .join(" ");
}

function withNotice(message: Message & { notice?: string }, notice: string | undefined): Shown {
  const { notice: _, ...plain } = message;
  return notice === undefined ? plain : { ...plain, notice };
}

/** The service's message; the same object as before if nothing has changed. */
function merged(message: Message, before: Shown | undefined): Shown {
  const now = withNotice(message, before?.notice);
  return JSON.stringify(Object.entries(now).sort()) ===
    JSON.stringify(Object.entries(before ?? {}).sort())
    ? before!
    : now;
}

/** With the next frame; in a hidden tab, which has none, a little later. */
function onFrame(callback: () => void): void {
  if (document.hidden) setTimeout(callback, HIDDEN_FRAME_MS);
  else requestAnimationFrame(callback);
}
