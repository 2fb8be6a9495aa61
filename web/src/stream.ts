// Reads answers of the chat API: no token twice and none missed, whatever the network does.
//
//   const source = { url: "http://localhost:8002", token, conversationId };
//   const question = { path: "messages", body: { content: "Hello" }, key: crypto.randomUUID() };
//   for await (const answer of readAnswer(source, question)) show(answer.text);
//
// It sends the question, or without one joins the answer that is being written, and when the
// connection breaks it comes back with the id of the last event that it saw. Nothing here knows of
// the page; the protocol is in docs/streaming.md. fetch, not EventSource: that one can neither POST
// nor send a token.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
// A heartbeat comes every 15 seconds; so much silence means that the connection is dead.
const SILENCE_MS = 40_000;
// Told to come back later than that, a person decides.
const PATIENCE_MS = 60_000;

export interface Source {
  /** Where the API is; "" on the page's own origin. */
  url: string;
  token: string;
  conversationId: string;
}

export interface Question {
  path: "messages" | "regenerate";
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
  /** Of a regeneration that did not get to its end: the old answer, which stays. */
  kept_message_id?: string;
};

export type StreamEvent =
  | { start: Start }
  | { token: string }
  | { reset: { attempt: number } }
  | { snapshot: { content: string } }
  | { error: string; detail: string }
  | Done;

/** What is known of an answer. Never changed in place: each change makes a new one. */
export interface Answer {
  text: string;
  /** The id of the last event that is in `text`. */
  cursor?: string;
  start?: Start;
  /** It is being written anew from its beginning, because whoever wrote it has gone. */
  again?: boolean;
  error?: { code: string; detail: string };
  /** The last event. Saved: nothing follows. */
  done?: Done;
  /** There is nothing (more) to read: open the conversation to see its state. */
  over?: boolean;
  /** Set while there is no connection. */
  waiting?: { failures: number; until: number; refusal?: Refused };
}

/** The API said no: a problem document (RFC 9457). */
export class Refused extends Error {
  constructor(
    readonly status: number,
    /** The last part of the problem's type: `conversation_busy`, `not_found`, … */
    readonly code: string,
    detail: string,
    /** From Retry-After; 0 where nothing is said. */
    readonly retryAfterMs: number,
  ) {
    super(detail);
  }

  /** Whether the same request may succeed in a while, without anybody correcting it. */
  get passing(): boolean {
    return (this.status >= 500 || this.status === 429) && this.retryAfterMs <= PATIENCE_MS;
  }

  static async from(response: Response): Promise<Refused> {
    const problem = await response.json().catch(() => ({}));
    const code =
      String(problem.type ?? "")
        .split(":")
        .at(-1) || `http_${response.status}`;
    const seconds = Number(response.headers.get("Retry-After") ?? 0);
    return new Refused(
      response.status,
      code,
      problem.detail ?? response.statusText,
      seconds * 1000 || 0,
    );
  }
}

/**
 * The answer each time that it has changed, until it is saved, `over`, or `signal` is aborted.
 * Leaving the loop leaves the answer running. Throws Refused where waiting would not help.
 */
export async function* readAnswer(
  source: Source,
  question?: Question,
  signal: AbortSignal = new AbortController().signal,
): AsyncGenerator<Answer, void, undefined> {
  let answer: Answer = { text: "" };
  let failures = 0;
  while (!signal.aborted) {
    const connection = new AbortController();
    const cut = () => connection.abort();
    // Back on the net: whatever connection there was is dead, though nobody may have said so.
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
      for await (const events of batches(response.body!)) {
        clearTimeout(silence);
        silence = setTimeout(cut, SILENCE_MS);
        if (events.length > 0) failures = 0;
        answer = events.reduce(apply, answer);
        yield answer;
        if (answer.done) return;
      }
    } catch (error) {
      if (error instanceof Refused && !error.passing) throw error;
      if (error instanceof Refused) refusal = error;
      // Else the connection broke, or could not be made.
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

/** The answer after one more event. What is not known is passed over, but moves the cursor. */
export function apply(answer: Answer, [id, event]: [string, StreamEvent]): Answer {
  const next: Answer = { ...answer, cursor: id };
  if ("start" in event) return { text: "", cursor: id, start: event.start };
  if ("token" in event) return { ...next, text: answer.text + event.token };
  if ("reset" in event) return { ...next, text: "", again: true };
  if ("snapshot" in event) return { ...next, text: event.snapshot.content };
  if ("error" in event) return { ...next, error: { code: event.error, detail: event.detail } };
  if ("done" in event) return { ...next, done: event };
  return next;
}

/** How long to wait after so many failures in a row; random, so that not all come back at once. */
export function backoff(failures: number): number {
  return Math.min(FIRST_WAIT_MS * 2 ** failures, LONGEST_WAIT_MS) * (0.5 + Math.random() / 2);
}

/** Resolves after so long, and at once where the network is back or `signal` is aborted. */
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

/** Goes on after the last event seen; before the first one, asks (again). */
function connect(
  source: Source,
  answer: Answer,
  question: Question | undefined,
  signal: AbortSignal,
): Promise<Response> {
  const path = `${source.url}/api/conversations/${source.conversationId}`;
  const headers = { Authorization: `Bearer ${source.token}`, Accept: "text/event-stream" };
  if (answer.cursor !== undefined) {
    return fetch(`${path}/stream`, {
      headers: { ...headers, "Last-Event-ID": answer.cursor },
      signal,
    });
  }
  if (question === undefined) return fetch(`${path}/stream`, { headers, signal });
  return fetch(`${path}/${question.path}`, {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/json", "Idempotency-Key": question.key },
    body: JSON.stringify(question.body),
    signal,
  });
}

/** The events of a response as they arrive: those of one chunk together, none for a heartbeat. */
async function* batches(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<[string, StreamEvent][]> {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let id = "";
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop() ?? "";
    const events: [string, StreamEvent][] = [];
    for (const line of lines) {
      if (line.startsWith("id: ")) id = line.slice(4);
      else if (line.startsWith("data: ")) events.push([id, JSON.parse(line.slice(6))]);
    }
    yield events;
  }
}
