// A client that never shows a token twice and never misses one; for browsers and Node 20 or newer.
//
//   for await (const text of answer("http://127.0.0.1:8002", token, conversationId, "Hello")) {
//     show(text); // the whole text so far
//   }
//
// It sends a message, and when the connection breaks it comes back with the id of the last event
// that it saw. fetch, not EventSource: that one can neither POST nor send a token.

type ChatEvent = {
  token?: string;
  reset?: { attempt: number };
  snapshot?: { content: string };
  error?: string;
  done?: true;
  status?: "complete" | "stopped" | "interrupted" | "failed";
};

const MOST_WAITING_MS = 10_000;
// A heartbeat comes every 15 seconds; a minute of silence means that the connection is dead.
const SILENCE_MS = 60_000;

export class Refused extends Error {
  constructor(readonly status: number, detail: string) {
    super(detail);
  }
}

/** The id and the JSON of each event of a response; ends where the connection does. */
async function* events(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<[string, ChatEvent]> {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let id = "";
  let rest = "";
  try {
    for (;;) {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const silence = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error("silence")), SILENCE_MS);
      });
      const { done, value } = await Promise.race([reader.read(), silence]).finally(() =>
        clearTimeout(timer),
      );
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line.startsWith("id: ")) id = line.slice(4);
        else if (line.startsWith("data: ")) yield [id, JSON.parse(line.slice(6))];
      }
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

/** Send a message; the whole text so far, each time it has changed, until it is saved. */
export async function* answer(
  url: string,
  token: string,
  conversationId: string,
  content: string,
): AsyncGenerator<string, ChatEvent["status"]> {
  const path = `${url}/api/conversations/${conversationId}`;
  const authorization = `Bearer ${token}`;
  const key = crypto.randomUUID(); // makes sending again harmless: the same key, the same answer
  let text = "";
  let cursor = "";
  let wait = 500;
  for (;;) {
    try {
      const response = cursor
        ? await fetch(`${path}/stream`, {
            headers: { Authorization: authorization, "Last-Event-ID": cursor },
          })
        : await fetch(`${path}/messages`, {
            method: "POST",
            headers: {
              Authorization: authorization,
              "Content-Type": "application/json",
              "Idempotency-Key": key,
            },
            body: JSON.stringify({ content }),
          });
      if (response.status === 204) return undefined; // it had been read to its end
      if (response.status >= 400 && response.status < 500) {
        throw new Refused(response.status, (await response.json()).detail);
      }
      if (response.ok && response.body) {
        for await (const [id, event] of events(response.body)) {
          cursor = id;
          wait = 500;
          if (event.token !== undefined) text += event.token;
          else if (event.reset) text = "";
          else if (event.snapshot) text = event.snapshot.content;
          else if (event.done) return event.status;
          else continue;
          yield text;
        }
      }
    } catch (error) {
      if (error instanceof Refused) throw error;
      // The connection broke, or could not be made.
    }
    // Closed without `done`, or not there: come back with the last id that was seen.
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(wait * 2, MOST_WAITING_MS);
  }
}
