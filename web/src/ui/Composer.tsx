import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Chat } from "../state/chat";
import { begin } from "../state/chats";
import { draftName, readDraft, writeDraft } from "../state/drafts";
import { options } from "../state/preferences";
import { refused } from "../state/service";
import { onChange } from "../state/storage";
import { announce } from "../state/say";
import { Icon } from "./Icon";
import { settings } from "./shell";

const MOST_CHARS = 8_000;
const COUNT_FROM = 7_000;

/** Where one types. `chat` undefined: the first message of a new conversation. */
export function Composer({ chat }: { chat: Chat | undefined }) {
  const id = chat?.id;
  const [text, setText] = useState(() => readDraft(id));
  const [problem, setProblem] = useState("");
  const [starting, setStarting] = useState(false);
  const area = useRef<HTMLTextAreaElement>(null);
  const answering = chat?.answering.value;
  const live = chat?.live.value;
  const unsent = chat?.unsent.value.length ?? 0;

  const change = (value: string) => {
    setText(value);
    setProblem("");
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
      if (answering) announce("Wait for the answer, or stop it with Esc.");
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
    try {
      await begin(text);
      writeDraft(undefined, "");
    } catch (error) {
      refused(error);
      setProblem((error as Error).message);
    } finally {
      setStarting(false);
    }
  };

  const thinking = options.value.thinking_mode;
  return (
    <form
      class="composer"
      aria-label="Your message"
      onSubmit={(event) => {
        event.preventDefault();
        void send();
      }}
    >
      {problem && (
        <p class="problem" role="alert">
          <Icon name="warning" /> {problem} Your message is kept.{" "}
          <button type="submit" class="link">
            Try again
          </button>
        </p>
      )}
      <div class="box">
        <textarea
          id="composer"
          ref={area}
          rows={1}
          placeholder={chat ? "Reply…" : "Ask anything…"}
          aria-label="Message"
          value={text}
          enterkeyhint="send"
          onInput={(event) => change(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            void send();
          }}
        />
        <div class="row">
          <button
            type="button"
            class="chip"
            aria-pressed={thinking}
            title="Have the model think step by step first"
            onClick={() => (options.value = { ...options.value, thinking_mode: !thinking })}
          >
            <Icon name="spark" /> Think first
          </button>
          <button
            type="button"
            class="tool"
            aria-label="Settings of the answers"
            title="Settings of the answers"
            onClick={() => (settings.value = true)}
          >
            <Icon name="sliders" />
          </button>
          {length > COUNT_FROM && (
            <span class={length > MOST_CHARS ? "count over" : "count"} role="status">
              {length.toLocaleString()} of {MOST_CHARS.toLocaleString()} characters
            </span>
          )}
          {answering ? (
            <button
              type="button"
              class="send stop"
              aria-label="Stop the answer"
              title="Stop the answer (Esc)"
              disabled={live?.stopping ?? false}
              onClick={() => void chat.stop()}
            >
              <Icon name="stop" filled />
            </button>
          ) : (
            <button
              type="submit"
              class="send"
              aria-label="Send"
              title="Send (Enter)"
              disabled={!ready}
            >
              {starting ? <span class="spinner" /> : <Icon name="send" />}
            </button>
          )}
        </div>
      </div>
    </form>
  );
}
