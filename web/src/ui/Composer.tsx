import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Unreachable } from "../api";
import type { Chat } from "../state/chat";
import { begin } from "../state/chats";
import { draftName, readDraft, writeDraft } from "../state/drafts";
import { options } from "../state/preferences";
import { lost, onFound, refused } from "../state/service";
import { onChange } from "../state/storage";
import { announce } from "../state/say";
import { Icon } from "./Icon";
import { isComposing, pressed } from "./keys";
import { coarse, settings } from "./shell";
import { number, texts } from "../texts";
import { explain } from "../state/explain";

const MOST_CHARS = 8_000;
const COUNT_FROM = 7_000;
/** The second click of a double click comes within this time. */
const DOUBLE_CLICK_MS = 700;

/** When "Send" was last clicked. The button "Stop" takes its place. */
let clickedAt = 0;

interface Props {
  /** undefined: the first message of a new conversation. */
  chat: Chat | undefined;
  /** Sends the draft at once. */
  sendNow?: boolean;
}

/** The text area. */
export function Composer({ chat, sendNow = false }: Props) {
  const t = texts.value.composer;
  const id = chat?.id;
  const [text, setText] = useState(() => readDraft(id));
  const [problem, setProblem] = useState("");
  /** The message is sent when the connection is restored. */
  const [waiting, setWaiting] = useState(false);
  const [starting, setStarting] = useState(false);
  const area = useRef<HTMLTextAreaElement>(null);
  const answering = chat?.answering.value;
  const live = chat?.live.value;
  const unsent = chat?.unsent.value.length ?? 0;

  const change = (value: string) => {
    setText(value);
    setProblem("");
    setWaiting(false);
    writeDraft(id, value);
  };

  // A message that was taken back for editing, and what is typed in another tab.
  useEffect(() => setText(readDraft(id)), [unsent]);
  useEffect(
    () =>
      onChange(draftName(id), (name) => {
        if (name === draftName(id) && !document.hasFocus()) setText(readDraft(id));
      }),
    [],
  );
  useLayoutEffect(() => {
    const box = area.current!;
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight}px`;
  }, [text]);

  const length = text.length > COUNT_FROM ? [...text].length : text.length;
  const ready = text.trim() !== "" && length <= MOST_CHARS && !answering && !starting;

  const send = async () => {
    if (!ready) {
      if (answering) announce(t.wait);
      return;
    }
    setProblem("");
    if (chat) {
      if (chat.answering.peek()) return; // the second Enter of a pair
      change("");
      chat.send(text);
      return;
    }
    setStarting(true);
    setWaiting(false);
    try {
      await begin(text);
      if (readDraft(undefined) === text) writeDraft(undefined, "");
    } catch (error) {
      refused(error);
      setProblem(explain(error));
      setWaiting(error instanceof Unreachable);
    } finally {
      setStarting(false);
    }
  };
  useEffect(() => {
    if (sendNow) void send();
  }, []);
  // Before it is painted: the service may be found at once.
  useLayoutEffect(() => (waiting ? onFound(() => void send()) : undefined), [waiting, text]);

  const thinking = options.value.thinking_mode;
  return (
    <form
      class="composer"
      aria-label={t.form}
      onSubmit={(event) => {
        event.preventDefault();
        void send();
      }}
    >
      {problem && (
        <p class="problem" role="alert">
          <Icon name="warning" /> {problem} {t.kept}{" "}
          {waiting && lost.value !== undefined && `${t.sentLater} `}
          <button type="submit" class="link">
            {texts.value.tryAgain}
          </button>
        </p>
      )}
      <div class="box">
        <textarea
          id="composer"
          ref={area}
          rows={1}
          placeholder={chat ? t.reply : t.ask}
          aria-label={t.message}
          value={text}
          dir="auto"
          enterkeyhint={coarse.matches ? "enter" : "send"}
          onInput={(event) => change(event.currentTarget.value)}
          onKeyDown={(event) => {
            const anyway = pressed(event, "sendOnTouch");
            if (isComposing(event) || !(anyway || pressed(event, "send"))) return;
            // The keyboard of a phone has no other key for a new line.
            if (coarse.matches && !anyway) return;
            event.preventDefault();
            void send();
          }}
        />
        <div class="row">
          <button
            type="button"
            class="chip"
            aria-pressed={thinking}
            title={t.thinkHint}
            onClick={() => (options.value = { ...options.value, thinking_mode: !thinking })}
          >
            <Icon name="spark" /> {t.think}
          </button>
          <button
            type="button"
            class="tool"
            aria-label={t.settings}
            title={t.settings}
            onClick={() => (settings.value = true)}
          >
            <Icon name="sliders" />
          </button>
          {length > COUNT_FROM && (
            <span class={length > MOST_CHARS ? "count over" : "count"} role="status">
              {t.count(number(length), number(MOST_CHARS))}
            </span>
          )}
          {answering ? (
            <Stop stopping={live?.stopping ?? false} stop={() => void chat.stop()} />
          ) : (
            <button
              type="submit"
              class="send"
              aria-label={t.send}
              title={t.sendHint}
              disabled={!ready}
              onClick={(event) => {
                if (event.detail > 0) clickedAt = Date.now();
              }}
            >
              {starting ? <span class="spinner" /> : <Icon name="send" />}
            </button>
          )}
        </div>
      </div>
    </form>
  );
}

/** Ignores the second click of a double click on "Send", whose place it takes. */
function Stop({ stopping, stop }: { stopping: boolean; stop: () => void }) {
  const t = texts.value.composer;
  const [wait, setWait] = useState(Math.max(0, clickedAt + DOUBLE_CLICK_MS - Date.now()));
  useEffect(() => {
    const timer = setTimeout(() => setWait(0), wait);
    return () => clearTimeout(timer);
  }, []);
  return (
    <button
      type="button"
      class="send stop"
      aria-label={t.stop}
      title={t.stopHint}
      disabled={stopping || wait > 0}
      onClick={stop}
    >
      <Icon name="stop" filled />
    </button>
  );
}
