import { useState } from "preact/hooks";
import * as conversations from "../state/conversations";
import { openId } from "../state/router";
import { Dialog } from "./Dialog";
import { Check, Number_ } from "./Settings";
import { conversationSettings } from "./shell";

const MOST_CHARS = 8_000;
const MOST_TAGS = 20;
const MOST_TAG_CHARS = 50;
const NOTHING = { temperature: null, max_tokens: null, top_k: null, thinking_mode: null };

/** Instructions, options and tags of the open conversation. */
export default function ConversationSettings() {
  const [id] = useState(openId.peek());
  const before = id === undefined ? undefined : conversations.conversation(id);
  const [instructions, setInstructions] = useState(before?.instructions ?? "");
  const [options, setOptions] = useState({ ...NOTHING, ...before?.options });
  const [tags, setTags] = useState((before?.tags ?? []).join(", "));
  const [saving, setSaving] = useState(false);
  const close = () => (conversationSettings.value = false);
  const set = (change: Partial<typeof options>) => setOptions({ ...options, ...change });

  const listed = [...new Set(tags.split(",").map((tag) => tag.trim()))].filter(Boolean);
  const problem =
    [...instructions].length > MOST_CHARS
      ? `The instructions are longer than ${MOST_CHARS.toLocaleString()} characters.`
      : listed.length > MOST_TAGS || listed.some((tag) => [...tag].length > MOST_TAG_CHARS)
        ? `There can be ${MOST_TAGS} tags of ${MOST_TAG_CHARS} characters.`
        : "";

  const save = async () => {
    if (id === undefined || problem) return;
    setSaving(true);
    const isSet = Object.values(options).some((value) => value !== null);
    const saved = await conversations.change(id, {
      instructions: instructions.trim() === "" ? null : instructions,
      options: isSet ? options : null,
      tags: listed,
    });
    setSaving(false);
    if (saved) close();
  };

  return (
    <Dialog title="This conversation" class="settings" onClose={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void save();
        }}
      >
        <fieldset>
          <legend>Instructions</legend>
          <textarea
            aria-label="Instructions"
            placeholder="What the model should know or do in this conversation"
            rows={4}
            dir="auto"
            value={instructions}
            onInput={(event) => setInstructions(event.currentTarget.value)}
          />
        </fieldset>
        <fieldset>
          <legend>Answers</legend>
          <Number_
            label="Temperature"
            hint="0 always takes the most likely token; higher values vary more."
            value={options.temperature}
            range={[0, 2, 0.1]}
            usual={0.7}
            set={(temperature) => set({ temperature })}
          />
          <Number_
            label="Maximum length"
            hint="In tokens; a token is about three quarters of a word."
            value={options.max_tokens}
            range={[16, 4096, 16]}
            usual={512}
            set={(max_tokens) => set({ max_tokens })}
          />
          <Number_
            label="Top-k"
            hint="How many of the most likely tokens are considered."
            value={options.top_k}
            range={[0, 200, 1]}
            usual={40}
            set={(top_k) => set({ top_k })}
          />
          <Check
            label="Think step by step first"
            value={options.thinking_mode === true}
            set={(value) => set({ thinking_mode: value || null })}
          />
        </fieldset>
        <fieldset>
          <legend>Tags</legend>
          <input
            aria-label="Tags, with commas between them"
            placeholder="work, recipes"
            dir="auto"
            value={tags}
            onInput={(event) => setTags(event.currentTarget.value)}
          />
        </fieldset>
        {problem && (
          <p class="problem" role="alert">
            {problem}
          </p>
        )}
        <button type="submit" class="primary" disabled={saving || problem !== ""}>
          Save
        </button>
      </form>
    </Dialog>
  );
}
