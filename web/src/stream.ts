// A client of the chat API's streams, for browsers and Node.js 20 or newer: it shows no token twice
// and misses none. The chat page uses this file, and examples/client.ts is a copy of it.
//
//   const source = { url: "http://localhost:8002", token: () => token, conversationId };
//   const question = { path: "messages", body: { content: "Hello" }, key: crypto.randomUUID() };
//   for await (const answer of readAnswer(source, question)) show(answer.text);
//
// With a question it sends that question; without one it joins the running answer. When the
// connection breaks it reconnects with the id of the last event. The file imports nothing; the
// protocol is in docs/streaming.md. It uses fetch because EventSource can neither POST nor send a
// token.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
// A heartbeat comes every 15 seconds; a longer silence means that the connection is dead.
const SILENCE_MS = 40_000;
// A longer Retry-After is thrown instead of waited for, so that the user decides.
const LONGEST_RETRY_AFTER_MS = 60_000;

export interface Source {
  /** Where the API is; "" on the page's own origin. */
  url: string;
  /** The access token, or a function that returns it, called before each request. */
  token: string | (() => string | Promise<string>);
  conversationId: string;
}

export interface Question {
  path: "messages" | "regenerate" | "continue";
  body: Record<string, unknown>;
  /** Idempotency-Key: the same key and body join the answer that the first try began. */
  key: string;
}

export type Status = "complete" | "stopped" | "interrupted" | "failed";

export type Start = {
  conversation_id: string;
  message_id: string;
  user_message_id: string;
  attempt: number;
};

export type Done = {
  done: true;
  message_id: string;
  status: Status;
  token_count: number;
  inference_time_ms: number;
  /** The model that wrote it. */
  model_tag?: string;
  finish_reason?: "stop" | "length" | "content_filter" | null;
  /** The engine's count; null if it reports none. */
  usage?: { input_tokens: number; output_tokens: number } | null;
  /** The old answer, which stays if a regeneration does not complete. */
  kept_message_id?: string;
};

export type StreamEvent =
  | { start: Start }
  | { token: string }
  | { reasoning: string }
  | { reset: { attempt: number } }
  | { snapshot: { content: string; reasoning?: string } }
  | { error: string; detail: string }
  | Done;

/** The state of an answer. Immutable: each change makes a new object. */
export interface Answer {
  text: string;
  /** The model's reasoning, if the engine reports it; not part of the text. */
  reasoning?: string;
  /** The earlier text of a continued answer, which the stream does not repeat. */
  continues?: string;
  /** The id of the last event that is in `text`. */
  cursor?: string;
  start?: Start;
  /** Set if it is written again from its beginning, because its process has died. */
  again?: boolean;
  error?: { code: string; detail: string };
  /** The last event. The answer is saved. */
  done?: Done;
  /** There is nothing more to read: open the conversation to see its state. */
  over?: boolean;
  /** Set while there is no connection. */
  waiting?: { failures: number; until: number; refusal?: Refused };
}

/** The API, or a proxy before it, refused a request. The message is a sentence for a person. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    /** The last part of the problem's type: `conversation_busy`, `not_found`, … */
    readonly code: string,
    detail: string,
    /** From Retry-After; 0 without it. */
    readonly retryAfterMs: number,
  ) {
    super(detail);
  }

  /** Whether the same request may succeed later. */
  get passing(): boolean {
    const temporary = this.status >= 500 || [408, 425, 429].includes(this.status);
    return temporary && this.retryAfterMs <= LONGEST_RETRY_AFTER_MS;
  }

  /** The refusal in a response, from its problem document or else from its status. */
  static async from(response: Response): Promise<Refused> {
    const body: unknown = await response.json().catch(() => undefined);
    const problem = isObject(body) ? body : {};
    const type = typeof problem["type"] === "string" ? problem["type"].split(":").at(-1) : "";
    const detail = typeof problem["detail"] === "string" ? problem["detail"].trim() : "";
    const retryAfterMs = waitOf(response.headers.get("Retry-After"));
    return new Refused(
      response.status,
      type || `http_${response.status}`,
      detail || sentenceFor(response.status, retryAfterMs),
      retryAfterMs,
    );
  }
}

/** The stream has an event that is not part of the protocol. Reading it again would not help. */
export class Unreadable extends Error {}

/** The connection broke, or could not be made. */
class Lost extends Error {}

const lost = (error: unknown): never => {
  throw new Lost("The connection was lost.", { cause: error });
};

const SENTENCES: Record<number, string> = {
  400: "The service could not understand the request.",
  401: "The service did not accept the sign-in.",
  403: "The service, or a proxy before it, does not allow this.",
  404: "The service does not know this address.",
  408: "The request took too long.",
  413: "The message is too large for the service.",
  415: "The service does not accept this kind of content.",
  422: "The service does not accept these values.",
  429: "There were too many requests.",
  431: "The request has too many or too large headers.",
  500: "The service failed.",
  502: "The service is not available.",
  503: "The service is not available.",
  504: "The service took too long to answer.",
};

/** A sentence for a status, if the response has none. */
function sentenceFor(status: number, retryAfterMs: number): string {
  const sentence =
    SENTENCES[status] ??
    (status >= 500 ? "The service failed." : "The service did not accept the request.");
  const minutes = Math.ceil(retryAfterMs / 60_000);
  const wait = minutes > 1 ? `in ${minutes} minutes` : "in a minute";
  return `${sentence} (Status ${status}.)${retryAfterMs > 0 ? ` Try again ${wait}.` : ""}`;
}

/** Milliseconds of a Retry-After header, which is a number of seconds or a date. */
function waitOf(header: string | null): number {
  if (header === null) return 0;
  const ms = /^\s*\d+\s*$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Math.max(0, ms) || 0;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Yields the answer after each change, until it is saved, `over`, or `signal` is aborted. Leaving
 * the loop does not stop the answer. `from` is an answer that was read in part, to read its rest;
 * for a question of "continue", `{ text, continues: text }` of the answer that ended early. Throws
 * Refused if waiting would not help, Unreadable for an event that is not part of the protocol, and
 * what `source.token` throws.
 */
export async function* readAnswer(
  source: Source,
  question?: Question,
  signal: AbortSignal = new AbortController().signal,
  from: Answer = { text: "" },
): AsyncGenerator<Answer, void, undefined> {
  const { waiting: _, ...known } = from;
  let answer: Answer = known;
  let failures = 0;
  while (!signal.aborted) {
    const connection = new AbortController();
    const cut = () => connection.abort();
    // When the network is back, the earlier connection is dead, often without an error.
    globalThis.addEventListener?.("online", cut);
    signal.addEventListener("abort", cut);
    let silence = setTimeout(cut, SILENCE_MS);
    let refusal: Refused | undefined;
    try {
      const response = await connect(source, answer, question, connection.signal);
      if (response.status === 204) {
        yield { ...answer, over: true };
        return;
      }
      if (!response.ok) throw await Refused.from(response);
      for await (const events of batches(bodyOf(response))) {
        clearTimeout(silence);
        silence = setTimeout(cut, SILENCE_MS);
        if (events.length > 0) failures = 0;
        answer = events.reduce(apply, answer);
        yield answer;
        if (answer.done) return;
      }
    } catch (error) {
      if (error instanceof Refused && error.passing) refusal = error;
      else if (!(error instanceof Lost) && !signal.aborted) throw error;
    } finally {
      clearTimeout(silence);
      globalThis.removeEventListener?.("online", cut);
      signal.removeEventListener("abort", cut);
      cut();
    }
    if (signal.aborted) return;
    const wait = Math.max(backoff(failures++), refusal?.retryAfterMs ?? 0);
    yield {
      ...answer,
      waiting: { failures, until: Date.now() + wait, ...(refusal && { refusal }) },
    };
    await pause(wait, signal);
  }
}

/** The answer after one more event. An unknown event only moves the cursor. */
export function apply(answer: Answer, [id, event]: [string, StreamEvent]): Answer {
  const next: Answer = { ...answer, cursor: id };
  if ("start" in event) {
    const { continues } = answer;
    return continues === undefined
      ? { text: "", cursor: id, start: event.start }
      : { text: continues, continues, cursor: id, start: event.start };
  }
  if ("token" in event) return { ...next, text: answer.text + event.token };
  if ("reasoning" in event) {
    return { ...next, reasoning: (answer.reasoning ?? "") + event.reasoning };
  }
  if ("reset" in event) return { ...next, text: "", reasoning: "", again: true };
  if ("snapshot" in event) {
    const { content, reasoning = "" } = event.snapshot;
    return { ...next, text: content, reasoning };
  }
  if ("error" in event) return { ...next, error: { code: event.error, detail: event.detail } };
  if ("done" in event) return { ...next, done: event };
  return next;
}

/** How long to wait after so many failures in a row; random, so that clients do not synchronise. */
export function backoff(failures: number): number {
  return Math.min(FIRST_WAIT_MS * 2 ** failures, LONGEST_WAIT_MS) * (0.5 + Math.random() / 2);
}

/** Resolves after this time, or at once when the network is back or `signal` is aborted. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      globalThis.removeEventListener?.("online", end);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    globalThis.addEventListener?.("online", end);
    signal.addEventListener("abort", end);
    if (signal.aborted) end();
  });
}

/** Asks for what follows the last event; before the first event, sends the question (again). */
async function connect(
  source: Source,
  answer: Answer,
  question: Question | undefined,
  signal: AbortSignal,
): Promise<Response> {
  const path = `${source.url}/api/conversations/${source.conversationId}`;
  const token = typeof source.token === "string" ? source.token : await source.token();
  const headers = { Authorization: `Bearer ${token}`, Accept: "text/event-stream" };
  if (answer.cursor !== undefined) {
    const resumed = { ...headers, "Last-Event-ID": answer.cursor };
    return fetch(`${path}/stream`, { headers: resumed, signal }).catch(lost);
  }
  if (question === undefined) return fetch(`${path}/stream`, { headers, signal }).catch(lost);
  return fetch(`${path}/${question.path}`, {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/json", "Idempotency-Key": question.key },
    body: JSON.stringify(question.body),
    signal,
  }).catch(lost);
}

/** The body of a stream. Throws for other responses, such as a network's sign-in page. */
export function bodyOf(response: Response): ReadableStream<Uint8Array<ArrayBuffer>> {
  const type = response.headers.get("Content-Type") ?? "";
  if (response.body && type.startsWith("text/event-stream")) return response.body;
  const detail = "Something between this client and the service answered in its place.";
  throw new Refused(502, "not_a_stream", detail, 0);
}

/** The events of a response as they arrive: those of one chunk together, none for a heartbeat. */
export async function* batches(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<[string, StreamEvent][]> {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let id = "";
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch(lost);
    if (done) return;
    // Only the new chunk is searched, so that a long line costs no more than its length.
    const lines = value.split("\n");
    lines[0] = rest + (lines[0] ?? "");
    rest = lines.pop() ?? "";
    const events: [string, StreamEvent][] = [];
    for (const line of lines) {
      if (line.startsWith("id:")) id = line.slice(3).trim();
      else if (line.startsWith("data:")) events.push([id, eventOf(line.slice(5))]);
    }
    yield events;
  }
}

function isSnapshot(value: unknown): boolean {
  if (!isObject(value) || typeof value["content"] !== "string") return false;
  return ["string", "undefined"].includes(typeof value["reasoning"]);
}

/** One event. Throws Unreadable for what is not JSON, or lacks what `apply` relies on. */
function eventOf(data: string): StreamEvent {
  let event: unknown;
  try {
    event = JSON.parse(data);
  } catch {
    event = undefined;
  }
  const sound =
    isObject(event) &&
    (!("start" in event) || isObject(event["start"])) &&
    (!("token" in event) || typeof event["token"] === "string") &&
    (!("reasoning" in event) || typeof event["reasoning"] === "string") &&
    (!("snapshot" in event) || isSnapshot(event["snapshot"]));
  if (!sound) throw new Unreadable("The service sent something that this client cannot read.");
  return event as StreamEvent;
}
