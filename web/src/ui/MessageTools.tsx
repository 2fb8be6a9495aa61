import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Chat, Shown } from "../state/chat";
import { Icon, type IconName } from "./Icon";
import { isComposing, pressed } from "./keys";
import { number, texts } from "../texts";

const MOST_CHARS = 8_000;

export function Tool({ icon, label, run }: { icon: IconName; label: string; run: () => void }) {
  return (
    <button type="button" class="tool" title={label} aria-label={label} onClick={run}>
      <Icon name={icon} />
    </button>
  );
}

/** The shown version of a message, and buttons for the previous and the next one. */
export function Versions({ chat, message }: { chat: Chat; message: Shown }) {
  const t = texts.value.messages;
  const { version, versions } = message;
  if (!(versions > 1)) return null;
  const button = (icon: IconName, label: string, to: number) => (
    <button
      type="button"
      class="tool"
      title={label}
      aria-label={label}
      disabled={to < 1 || to > versions}
      onClick={() => void chat.showVersion(message, to)}
    >
      <Icon name={icon} />
    </button>
  );
  return (
    <span class="versions" role="group" aria-label={t.versions}>
      {button("left", t.previousVersion, version - 1)}
      <span>
        {number(version)}/{number(versions)}
      </span>
      {button("right", t.nextVersion, version + 1)}
    </span>
  );
}

interface EditorProps {
  chat: Chat;
  message: Shown;
  close: () => void;
}

/** An editor in the place of a message. */
export function Editor({ chat, message, close }: EditorProps) {
  const t = texts.value.messages;
  const [text, setText] = useState(message.content);
  const area = useRef<HTMLTextAreaElement>(null);
  // Before the browser paints: what is typed at once goes to the end, or replaces a selection.
  useLayoutEffect(() => {
    area.current!.focus();
    area.current!.setSelectionRange(text.length, text.length);
  }, []);
  const ready = text.trim() !== "" && [...text].length <= MOST_CHARS;
  const send = () => {
    if (!ready) return;
    if (!chat.answering.peek()) close();
    chat.edit(message, text);
  };
  return (
    <form
      class="editor"
      aria-label={t.editor}
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <textarea
        ref={area}
        aria-label={t.newText}
        dir="auto"
        rows={Math.min(12, text.split("\n").length + 1)}
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (isComposing(event)) return;
          if (event.key === "Escape") close();
          else if (pressed(event, "sendOnTouch")) send();
          else return;
          event.preventDefault();
          event.stopPropagation();
        }}
      />
      <span>
        <button type="button" class="small" onClick={close}>
          {texts.value.cancel}
        </button>
        <button type="submit" class="small" disabled={!ready}>
          {t.sendNewText}
        </button>
      </span>
    </form>
  );
}
