// Reads an answer, with a stream of this tab's own or, if there are enough of those, through
// another tab or by polling. A hidden tab closes its stream.

import { effect, signal } from "@preact/signals";
import { type Answer, type Question, readAnswer, type Source } from "../stream";
import { type News, onNews, tell } from "./tabs";
import { takeLook, takeTurn, type Turn } from "./turns";

/** A tab that is hidden for this time closes its stream. */
const GRACE_MS = 5_000;
/** How long a tab without a stream waits before it tries to get one, or polls. */
const TICK_MS = 2_000;
const HIDDEN_TICK_MS = 30_000;
/** A tab that shares its stream sends a message within this time. */
const SOON_MS = 400;
/** For this time after its last message, a sharing tab counts as present. */
const FRESH_MS = 5_000;
/** How long a poll lasts, from the first event and in total. */
const LOOK_MS = 300;
const LONGEST_LOOK_MS = 5_000;
/** How often a stream is passed on to other tabs, and for how long after the last one asked. */
const SHARE_EVERY_MS = 100;
const SHARE_FOR_MS = 10_000;

/** Whether this tab has been hidden for a while. */
export const away = signal(document.hidden);

let leaving: ReturnType<typeof setTimeout> | undefined;
document.addEventListener("visibilitychange", () => {
  clearTimeout(leaving);
  if (document.hidden) leaving = setTimeout(() => (away.value = true), GRACE_MS);
  else away.value = false;
});

/** As `readAnswer` of stream.ts, with at most a few streams for all tabs of the browser. */
export async function* follow(
  source: Source,
  question: Question | undefined,
  signal: AbortSignal,
  from: Answer = { text: "" },
): AsyncGenerator<Answer, void, undefined> {
  const others = new Others(source.conversationId, signal);
  let answer = from;
  try {
    while (!signal.aborted) {
      // A question is sent at once; reading alone can wait for its turn.
      const asking = question !== undefined && answer.cursor === undefined;
      const turn = asking || !away.peek() ? await takeTurn(source.conversationId, asking) : "full";
      const answers =
        typeof turn === "object"
          ? ownStream(turn, source, question, signal, answer)
          : elsewhere(turn === "shared", others, source, signal, answer);
      for await (answer of answers) {
        yield answer;
        if (answer.done ?? answer.over) return;
      }
    }
  } finally {
    others.forget();
  }
}

/** Reads the stream until it ends, another tab needs the connection, or the page is hidden. */
async function* ownStream(
  turn: Turn,
  source: Source,
  question: Question | undefined,
  signal: AbortSignal,
  from: Answer,
): AsyncGenerator<Answer> {
  const reading = new AbortController();
  const end = () => reading.abort();
  const share = new Share(source.conversationId);
  let asking = question !== undefined && from.cursor === undefined;
  const unwatch = effect(() => {
    if (away.value && !asking) end();
  });
  for (const ending of [signal, turn.lost]) {
    ending.addEventListener("abort", end);
    if (ending.aborted) end();
  }
  try {
    for await (const answer of readAnswer(source, question, reading.signal, from)) {
      asking &&= answer.cursor === undefined;
      share.put(answer);
      yield answer;
      if (away.peek() && !asking) end();
    }
  } finally {
    unwatch();
    signal.removeEventListener("abort", end);
    end();
    share.end();
    turn.release();
  }
}

/** Follows the answer without a stream for a while. */
async function* elsewhere(
  shared: boolean,
  others: Others,
  source: Source,
  signal: AbortSignal,
  from: Answer,
): AsyncGenerator<Answer> {
  tell({ type: "asking", id: source.conversationId });
  if (shared) await others.wait(SOON_MS);
  const until = Date.now() + (away.peek() ? HIDDEN_TICK_MS : TICK_MS);
  if (away.peek()) others.nextLook ||= until;
  if (Date.now() - others.heardAt > FRESH_MS && Date.now() >= others.nextLook) {
    others.nextLook = until;
    yield* look(source, signal, from);
  }
  do {
    const heard = others.take();
    if (heard) yield heard;
    if (heard?.done) return;
    await others.wait(until - Date.now());
  } while (!signal.aborted && !others.changed && Date.now() < until);
  others.changed = false;
}

/** One poll of the stream: the events since the last one. */
async function* look(source: Source, signal: AbortSignal, from: Answer): AsyncGenerator<Answer> {
  const turn = await takeLook(signal);
  if (!turn) return;
  const looking = new AbortController();
  const end = () => looking.abort();
  signal.addEventListener("abort", end);
  const deadline = setTimeout(end, LONGEST_LOOK_MS);
  let enough: ReturnType<typeof setTimeout> | undefined;
  try {
    for await (const answer of readAnswer(source, undefined, looking.signal, from)) {
      yield answer;
      if (answer.waiting) return;
      enough ??= setTimeout(end, LOOK_MS);
    }
  } finally {
    clearTimeout(deadline);
    clearTimeout(enough);
    signal.removeEventListener("abort", end);
    end();
    turn.release();
  }
}

/** Messages of other tabs about one conversation, and other events that end a wait. */
class Others {
  heardAt = 0;
  nextLook = 0;
  /** A stream may be available now. */
  changed = false;
  private latest: Answer | undefined;
  private wake: () => void = () => undefined;
  private readonly forgets: (() => void)[];

  constructor(id: string, signal: AbortSignal) {
    const wake = () => this.wake();
    signal.addEventListener("abort", wake);
    this.forgets = [
      onNews((news) => this.hear(id, news)),
      effect(() => {
        this.changed = !away.value;
        this.wake();
      }),
      () => signal.removeEventListener("abort", wake),
    ];
    this.changed = false;
  }

  private hear(id: string, news: News): void {
    if (news.type === "free") this.changed = true;
    else if (news.type === "answer" && news.id === id) {
      this.latest = news.answer;
      this.heardAt = Date.now();
    } else return;
    this.wake();
  }

  /** The newest answer that another tab has sent, returned once. */
  take(): Answer | undefined {
    const latest = this.latest;
    this.latest = undefined;
    return latest;
  }

  /** Resolves after this time, or at once when there is something new. */
  wait(ms: number): Promise<void> {
    if (this.latest || this.changed) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.wake(), Math.max(0, ms));
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  forget(): void {
    for (const forget of this.forgets) forget();
  }
}

/** Passes an answer on to the other tabs that want it. */
class Share {
  private wantedUntil = 0;
  private latest: Answer | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly forget: () => void;

  constructor(private readonly id: string) {
    this.forget = onNews((news) => {
      if (news.type !== "asking" || news.id !== id) return;
      this.wantedUntil = Date.now() + SHARE_FOR_MS;
      this.send();
    });
  }

  put(answer: Answer): void {
    const { waiting: _, ...known } = answer;
    this.latest = known;
    if (answer.done) this.send();
    else if (Date.now() < this.wantedUntil) {
      this.timer ??= setTimeout(() => this.send(), SHARE_EVERY_MS);
    }
  }

  private send(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.latest && Date.now() < this.wantedUntil) {
      tell({ type: "answer", id: this.id, answer: this.latest });
    }
  }

  end(): void {
    if (this.timer !== undefined) this.send();
    this.forget();
  }
}
