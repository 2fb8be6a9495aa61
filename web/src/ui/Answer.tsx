import { useRef, useState } from "preact/hooks";
import { GrowingMarkdown } from "../markdown/blocks";
import { BlockView } from "../markdown/render";
import { texts } from "../texts";

/** The text of an answer. `growing`: more of it is coming. */
export function AnswerText({ text, growing }: { text: string; growing: boolean }) {
  const { thoughts, thinking, said } = withoutThoughts(text);
  return (
    <>
      {thoughts !== undefined && <Thinking text={thoughts} growing={growing && thinking} />}
      <Markdown text={said} growing={growing && !thinking} />
    </>
  );
}

/** The model's reasoning before the answer, collapsed. */
export function Thinking({ text, growing }: { text: string; growing: boolean }) {
  const t = texts.value.answer;
  const [open, setOpen] = useState(false);
  return (
    <details class="thoughts" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        {t.thinking}
        {growing && <span class="spinner" role="img" aria-label={t.inProgress} />}
      </summary>
      {open && <Markdown text={text} growing={growing} />}
    </details>
  );
}

function Markdown({ text, growing }: { text: string; growing: boolean }) {
  const [markdown] = useState(() => new GrowingMarkdown());
  const blocks = markdown.update(text, growing);
  return (
    <div class="prose" key={useBeginnings(growing)}>
      {blocks.map((block, index) => (
        <BlockView key={index} block={block} growing={growing && index === blocks.length - 1} />
      ))}
    </div>
  );
}

/**
 * How often the text has begun to grow. Then its elements are made again: a translator may have
 * taken the text out of those of the answer before.
 */
function useBeginnings(growing: boolean): number {
  const state = useRef({ growing, count: 0 });
  if (growing && !state.current.growing) state.current.count += 1;
  state.current.growing = growing;
  return state.current.count;
}

/** Some models begin with reasoning between tags. */
function withoutThoughts(text: string) {
  const opening = /^\s*<think>/.exec(text);
  if (!opening) return { said: text, thinking: false };
  const end = text.indexOf("</think>");
  const thoughts = text.slice(opening[0].length, end < 0 ? undefined : end);
  return { thoughts, thinking: end < 0, said: end < 0 ? "" : text.slice(end + 8) };
}
