import { useEffect, useState } from "preact/hooks";
import { type Chat, type Live, type Shown, withoutEdited } from "../state/chat";
import type { Pending, Unsent } from "../state/drafts";
import * as models from "../state/models";
import { tryNow } from "../state/service";
import { moment } from "../time";
import { AnswerText, Thinking } from "./Answer";
import { CopyButton } from "./CopyButton";
import { Icon, Mark } from "./Icon";
import { Editor, Tool, Versions } from "./MessageTools";
import { memo } from "./memo";
import { Menu } from "./Menu";
import { deleting, focusComposer } from "./shell";
import { number, texts } from "../texts";
import { explain } from "../state/explain";

export function Messages({ chat }: { chat: Chat }) {
  const { messages: t, tryAgain } = texts.value;
  const messages = withoutEdited(chat.messages.value, chat.pending.value);
  const pending = chat.pending.value;
  const live = chat.live.value;
  const trouble = chat.trouble.value;
  const last = messages.at(-1);
  // A regeneration is written where the old answer stood; the first frames have no place yet.
  const place = live && (live.replaces ?? live.answer.start?.message_id ?? running(messages)?.id);
  const placed = messages.some(({ id }) => id === place);
  return (
    <>
      {messages.map((message, index) => {
        if (message.role === "user")
          return <Question key={message.id} chat={chat} message={message} />;
        return (
          <Answer
            // Of what it answers: an answer that is regenerated stays the same element.
            key={`${messages[index - 1]?.id ?? message.id} answered`}
            chat={chat}
            message={message}
            live={message.id === place ? live : undefined}
            last={message === last && !pending && !live}
          />
        );
      })}
      {pending && <PendingQuestion pending={pending} />}
      {live && !placed && <Answer key="live" chat={chat} live={live} last={false} />}
      {last?.role === "user" && !pending && !live && (
        <div class="offer">
          <p>{t.noAnswer}</p>
          <Again chat={chat} label={t.getAnswer} />
        </div>
      )}
      {trouble && (
        <div class="outcome bad" role="alert">
          <Icon name="warning" />
          <p>{trouble}</p>
          <button type="button" class="small" onClick={() => chat.retry()}>
            <Icon name="again" /> {tryAgain}
          </button>
        </div>
      )}
      {chat.unsent.value.map((unsent) => (
        <UnsentQuestion key={unsent.key} chat={chat} unsent={unsent} />
      ))}
    </>
  );
}

function running(messages: Shown[]): Shown | undefined {
  return messages.findLast(({ status }) => status === "generating");
}

const Question = memo(
  ({ chat, message }: { chat: Chat; message: Shown }) => {
    const t = texts.value.messages;
    const [editing, setEditing] = useState(false);
    return (
      <article class="message question" aria-label={t.you}>
        {editing ? (
          <Editor chat={chat} message={message} close={() => setEditing(false)} />
        ) : (
          <>
            <div class="bubble" dir="auto" title={moment(message.created_at)}>
              {message.content}
            </div>
            <footer>
              <Versions chat={chat} message={message} />
              <Tool icon="pen" label={t.edit} run={() => setEditing(true)} />
              <Tool icon="bin" label={t.remove} run={() => (deleting.value = { chat, message })} />
            </footer>
          </>
        )}
      </article>
    );
  },
  (before, after) => before.message === after.message,
);

interface AnswerProps {
  chat: Chat;
  /** Left out before the service has said which one it is. */
  message?: Shown;
  /** Set while it is being written. */
  live?: Live | undefined;
  last: boolean;
}

const Answer = memo(
  ({ chat, message, live, last }: AnswerProps) => {
    const text = live ? textOf(live) : (message?.content ?? "");
    const written = text.trim() !== "";
    const reasoning = reasoningOf(message, live);
    return (
      <article
        // A translator moves text into elements of its own, where its growth would be lost.
        class={`message answer ${live ? "live notranslate" : message?.status}`}
        translate={live === undefined}
        aria-label="samosaChaat"
        aria-busy={live ? "true" : undefined}
      >
        <Mark lively={live !== undefined} />
        <div class="body">
          {reasoning && <Thinking text={reasoning} growing={live !== undefined && !written} />}
          {written && <AnswerText text={text} growing={live !== undefined} />}
          {live && !written && !reasoning && <Dots />}
          {live && <Progress live={live} />}
          {message && !live && <Outcome chat={chat} message={message} last={last} />}
          {message && !live && written && (
            <Tools chat={chat} message={message} again={last && outcome(message) === undefined} />
          )}
        </div>
      </article>
    );
  },
  (before, after) =>
    before.message === after.message && before.last === after.last && before.live === after.live,
);

/** Until the stream has caught up with what was there before the connection, that is shown. */
function textOf({ answer, seed }: Live): string {
  return answer.text.length < seed.length ? seed : answer.text;
}

/** The same of the reasoning; that of an old answer, which is written again, does not count. */
function reasoningOf(message: Shown | undefined, live: Live | undefined): string {
  const known = message?.reasoning ?? "";
  if (!live) return known;
  const { reasoning = "", again, start } = live.answer;
  const own = message?.status === "generating" || message?.id === start?.message_id;
  return own && !again && reasoning.length < known.length ? known : reasoning;
}

function Dots() {
  return (
    <p class="dots" role="img" aria-label={texts.value.answer.waiting}>
      <i />
      <i />
      <i />
    </p>
  );
}

/** Other models than the one that answers in this conversation, as far as they can answer now. */
function otherModels(id: string): string[] {
  const tags = models.ready.value.map(({ model_tag }) => model_tag);
  return tags.length > 1 ? tags.filter((tag) => tag !== models.modelOf(id)) : [];
}

function Tools({ chat, message, again }: { chat: Chat; message: Shown; again: boolean }) {
  const t = texts.value.answer;
  return (
    <footer>
      <CopyButton text={message.content} label={t.copy} />
      {again && <Tool icon="again" label={t.regenerate} run={() => chat.regenerate()} />}
      <Menu
        label={t.more}
        button={<Icon name="more" />}
        items={[
          ...(again ? [] : [{ label: t.regenerateThis, run: () => chat.regenerate(message) }]),
          ...otherModels(chat.id).map((model) => ({
            label: t.regenerateWith(model),
            run: () => chat.regenerate(message, model),
          })),
          {
            label: t.remove,
            danger: true,
            run: () => (deleting.value = { chat, message }),
          },
        ]}
      />
      <Versions chat={chat} message={message} />
      <small title={moment(message.created_at)}>{facts(message)}</small>
    </footer>
  );
}

/** The note for an answer that is empty or did not complete. */
function Outcome({ chat, message, last }: { chat: Chat; message: Shown; last: boolean }) {
  const text = outcome(message);
  if (text === undefined) return null;
  return (
    <div
      class={
        message.status === "complete" || message.status === "stopped" ? "outcome" : "outcome bad"
      }
    >
      <Icon name={message.status === "stopped" ? "stop" : "warning"} />
      <p>{text}</p>
      {last && (
        <span>
          <Versions chat={chat} message={message} />
          {endedEarly(message) && (
            <button type="button" class="small" onClick={() => chat.goOn()}>
              <Icon name="down" /> {texts.value.answer.goOn}
            </button>
          )}
          <Again
            chat={chat}
            label={
              message.status === "failed" ? texts.value.tryAgain : texts.value.answer.regenerate
            }
          />
        </span>
      )}
    </div>
  );
}

/** Whether an answer can be continued, if its engine is able to. */
function endedEarly({ status, content, finish_reason }: Shown): boolean {
  if (content.trim() === "") return false;
  const isCut = status === "complete" && finish_reason === "length";
  return status === "stopped" || status === "interrupted" || isCut;
}

function outcome({ status, content, finish_reason, notice }: Shown): string | undefined {
  const t = texts.value.answer;
  const written = content.trim() !== "";
  switch (status) {
    case "stopped":
      return notice ?? (written ? t.stopped : t.stoppedBefore);
    case "interrupted":
      return `${written ? t.cutOffHere : t.cutOff}${notice ? ` ${notice}` : ""}`;
    case "failed":
      return t.failed(notice ?? t.notCompleted);
    case "complete":
      if (notice !== undefined) return notice;
      if (!written) return t.empty;
      return finish_reason === "length" ? t.tooLong : undefined;
    default:
      return notice;
  }
}

function facts({ model_tag, token_count, inference_time_ms, usage }: Shown): string {
  const t = texts.value.answer;
  const tokens = usage?.output_tokens || token_count;
  const seconds = inference_time_ms / 1000;
  const measured = seconds >= 0.05;
  const rounded = (value: number) => number(value, { maximumFractionDigits: value < 100 ? 1 : 0 });
  const known = [
    model_tag !== "default" && model_tag,
    tokens > 0 && t.tokens(tokens, number(tokens)),
    measured && texts.value.seconds(rounded(seconds)),
    measured && tokens > 1 && t.tokensPerSecond(rounded(tokens / seconds)),
  ];
  return known.filter(Boolean).join(" · ");
}

function Again({ chat, label }: { chat: Chat; label: string }) {
  return (
    <button type="button" class="small" onClick={() => chat.regenerate()}>
      <Icon name="again" /> {label}
    </button>
  );
}

/** The note beside a running answer. */
function Progress({ live: { answer, stopping, held } }: { live: Live }) {
  const { waiting, again } = answer;
  const { answer: t, page, tryNow: label } = texts.value;
  if (stopping) return <p class="progress">{t.stopping}</p>;
  if (held) {
    return <p class="progress">{t.late}</p>;
  }
  if (waiting?.refusal) {
    const [before, after] = page.tryingAgain;
    return (
      <p class="progress">
        {explain(waiting.refusal)} {before}
        <Countdown until={waiting.until} />
        {after}{" "}
        <button type="button" class="link" onClick={tryNow}>
          {label}
        </button>
      </p>
    );
  }
  // The first failure is usually over before it can be read. The banner shows longer ones.
  if (waiting && waiting.failures > 1) {
    return <p class="progress">{answer.start ? t.lost : t.notSentYet}</p>;
  }
  if (again) return <p class="progress">{t.again}</p>;
  return null;
}

/** `3 s`, counting down. */
export function Countdown({ until }: { until: number }) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, []);
  const seconds = Math.max(0, Math.ceil((until - now) / 1000));
  return <span class="countdown">{texts.value.seconds(number(seconds))}</span>;
}

function PendingQuestion({ pending }: { pending: Pending }) {
  const t = texts.value.messages;
  return (
    <article class="message question fresh" aria-label={t.you}>
      <div class="bubble" dir="auto">
        {pending.body.content}
      </div>
    </article>
  );
}

function UnsentQuestion({ chat, unsent }: { chat: Chat; unsent: Unsent }) {
  const t = texts.value.messages;
  const busy = chat.answering.value;
  return (
    <article class="message question unsent" aria-label={t.you}>
      <div class="bubble" dir="auto">
        {unsent.body.content}
      </div>
      <div class="outcome bad" role="alert">
        <Icon name="warning" />
        <p>{t.notSent(unsent.problem)}</p>
        <span>
          <button
            type="button"
            class="small"
            disabled={busy}
            onClick={() => chat.sendAgain(unsent)}
          >
            <Icon name="again" /> {t.sendAgain}
          </button>
          <button
            type="button"
            class="small"
            onClick={() => (chat.discard(unsent, true), focusComposer(true))}
          >
            <Icon name="pen" /> {t.editUnsent}
          </button>
          <button type="button" class="small" onClick={() => chat.discard(unsent, false)}>
            <Icon name="bin" /> {t.discard}
          </button>
        </span>
      </div>
    </article>
  );
}
