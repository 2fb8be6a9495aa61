import { afterEach, expect, test, vi } from "vitest";
import { type Answer, readAnswer, Refused, Unreadable } from "./stream";

const source = { url: "http://api", token: "secret", conversationId: "c" };
const START = 'id: 1\ndata: {"start":{"message_id":"m","user_message_id":"u","attempt":1}}\n\n';
const DONE = 'id: 9\ndata: {"done":true,"message_id":"m","status":"complete"}\n\n';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

/** Answers the requests one after the other with these; the requests. */
function answering(...responses: (Response | Error)[]): Request[] {
  const requests: Request[] = [];
  vi.stubGlobal("fetch", (url: string, init: RequestInit) => {
    const { signal: _, ...rest } = init;
    requests.push(new Request(url, rest));
    const next = responses.shift() ?? new TypeError("no more responses");
    return next instanceof Error ? Promise.reject(next) : Promise.resolve(next);
  });
  return requests;
}

function stream(...chunks: string[]): Response {
  const body = new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(new TextEncoder().encode(chunk));
      controller.close();
    },
  });
  return new Response(body, { headers: { "Content-Type": "text/event-stream; charset=utf-8" } });
}

async function all(from?: Answer, token?: () => Promise<string>): Promise<Answer[]> {
  const answers: Answer[] = [];
  const reading = readAnswer({ ...source, ...(token && { token }) }, undefined, undefined, from);
  for await (const answer of reading) answers.push(answer);
  return answers;
}

test.each([
  ["no JSON", '{"token":'],
  ["null", "null"],
  ["a list", "[1]"],
  ["a text", '"token"'],
  ["a token that is no text", '{"token":5}'],
  ["a reasoning that is no text", '{"reasoning":5}'],
  ["a snapshot without a text", '{"snapshot":{}}'],
  ["a snapshot whose reasoning is no text", '{"snapshot":{"content":"","reasoning":[]}}'],
  ["a start that is nothing", '{"start":null}'],
])(
  "an event that is %s ends the reading, and is not taken for a lost connection",
  async (_, bad) => {
    const requests = answering(stream(START, `id: 2\ndata: ${bad}\n\n`, DONE));
    await expect(all()).rejects.toThrow(Unreadable);
    expect(requests).toHaveLength(1);
  },
);

const SNAPSHOT = 'data: {"snapshot":{"content":"So far","reasoning":"Hm. "}}\n\n';

test.each<[string, Answer, string, { text: string; reasoning?: string }]>([
  [
    "reasoning is kept apart from the text",
    { text: "" },
    'id: 2\ndata: {"reasoning":"Hm"}\n\nid: 3\ndata: {"reasoning":". "}\n\nid: 4\ndata: {"token":"Yes"}\n\n',
    { text: "Yes", reasoning: "Hm. " },
  ],
  [
    "a reset forgets the reasoning too",
    { text: "" },
    'id: 2\ndata: {"reasoning":"Hm"}\n\nid: 3\ndata: {"reset":{"attempt":2}}\n\nid: 4\ndata: {"token":"Yes"}\n\n',
    { text: "Yes", reasoning: "" },
  ],
  [
    "a snapshot has both",
    { text: "" },
    `id: 2\ndata: {"token":"lost"}\n\nid: 3\n${SNAPSHOT}id: 4\ndata: {"token":"."}\n\n`,
    { text: "So far.", reasoning: "Hm. " },
  ],
  [
    "an answer that is continued keeps its text without a reset",
    { text: "Half", continues: "Half" },
    'id: 2\ndata: {"token":" more"}\n\n',
    { text: "Half more" },
  ],
])("%s", async (_, from, events, expected) => {
  answering(stream(START, events, DONE));
  expect((await all(from)).at(-1)).toMatchObject(expected);
});

test("an unknown event is passed over", async () => {
  answering(stream(START, 'id: 2\ndata: {"mood":"fine"}\n\n', DONE));
  expect((await all()).at(-1)).toMatchObject({ text: "", done: { status: "complete" } });
});

test.each([
  [400, "", "text/html", /could not understand/],
  [403, "<html>forbidden</html>", "text/html", /does not allow/],
  [413, "", "text/plain", /too large/],
  [404, "null", "application/json", /does not know/],
  [418, '{"detail":7}', "application/json", /did not accept/],
  [
    409,
    '{"type":"urn:x:conversation_busy","detail":"It is busy."}',
    "application/json",
    /It is busy/,
  ],
])("a refusal with %i and %s has a sentence", async (status, body, type, sentence) => {
  answering(new Response(body, { status, headers: { "Content-Type": type } }));
  const refused: unknown = await all().catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(Refused);
  expect((refused as Refused).message).toMatch(sentence);
  expect((refused as Refused).status).toBe(status);
});

test.each(["3600", new Date(Date.now() + 3_600_000).toUTCString()])(
  "a 503 that asks for an hour (%s) is thrown and says so",
  async (wait) => {
    answering(new Response("", { status: 503, headers: { "Retry-After": wait } }));
    await expect(all()).rejects.toThrow(/not available.*Try again in (59|60) minutes/);
  },
);

test("the token is asked for before each request, and the reading goes on after the last event", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const requests = answering(
    stream(START, 'id: 2\ndata: {"token":"Hel"}\n\n'),
    new TypeError("no network"),
    stream('id: 3\ndata: {"token":"lo"}\n\n', DONE),
  );
  let asked = 0;
  const reading = all(undefined, () => Promise.resolve(`token ${++asked}`));
  while (requests.length < 3) await vi.advanceTimersByTimeAsync(1_000);
  const answers = await reading;
  expect(answers.at(-1)).toMatchObject({ text: "Hello", done: { status: "complete" } });
  expect(requests.map(({ headers }) => headers.get("Authorization"))).toEqual([
    "Bearer token 1",
    "Bearer token 2",
    "Bearer token 3",
  ]);
  expect(requests.map(({ headers }) => headers.get("Last-Event-ID"))).toEqual([null, "2", "2"]);
});

test("the rest of an earlier reading is asked for", async () => {
  const requests = answering(stream('id: 3\ndata: {"token":"lo"}\n\n', DONE));
  const answers = await all({ text: "Hel", cursor: "2", waiting: { failures: 3, until: 0 } });
  expect(requests[0]?.headers.get("Last-Event-ID")).toBe("2");
  expect(answers.at(-1)?.text).toBe("Hello");
  expect(answers[0]?.waiting).toBeUndefined();
});

test("what the token function throws is thrown", async () => {
  answering();
  await expect(all(undefined, () => Promise.reject(new Error("no token")))).rejects.toThrow(
    "no token",
  );
});

test("a long line in small chunks is read in a time that grows with its length", async () => {
  const text = "x".repeat(400_000);
  const event = `id: 2\ndata: {"token":"${text}"}\n\n`;
  const chunks = event.match(/.{1,20}|\n/gs)!;
  answering(stream(START, ...chunks, DONE));
  expect((await all()).at(-1)?.text).toHaveLength(400_000);
});

test("a page in place of the stream is tried again, and says so", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const page = new Response("<html>", { headers: { "Content-Type": "text/html" } });
  const requests = answering(page, stream(START, DONE));
  const reading = all();
  while (requests.length < 2) await vi.advanceTimersByTimeAsync(1_000);
  const answers = await reading;
  expect(answers[0]?.waiting?.refusal?.message).toMatch(/answered in its place/);
  expect(answers.at(-1)?.done?.status).toBe("complete");
});
