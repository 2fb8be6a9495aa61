import { useState } from "preact/hooks";
import * as conversations from "../state/conversations";
import { openId } from "../state/router";
import { Dialog } from "./Dialog";
import { Check, Number_ } from "./Settings";
import { conversationSettings } from "./shell";
import { number, texts } from "../texts";

const MOST_CHARS = 8_000;
const MOST_TAGS = 20;
const MOST_TAG_CHARS = 50;
const NOTHING = { temperature: null, max_tokens: null, top_k: null, thinking_mode: null };

/** Instructions, options and tags of the open conversation. */
export default function ConversationSettings() {
  const { conversationSettings: t, settings: s, save: saveLabel } = texts.value;
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
      ? t.tooLong(number(MOST_CHARS))
      : listed.length > MOST_TAGS || listed.some((tag) => [...tag].length > MOST_TAG_CHARS)
        ? t.tooManyTags(number(MOST_TAGS), number(MOST_TAG_CHARS))
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
    <Dialog title={t.title} class="settings" onClose={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void save();
        }}
      >
        <fieldset>
          <legend>{t.instructions}</legend>
          <textarea
            aria-label={t.instructions}
            placeholder={t.instructionsHint}
            rows={4}
            dir="auto"
            value={instructions}
            onInput={(event) => setInstructions(event.currentTarget.value)}
          />
        </fieldset>
        <fieldset>
          <legend>{s.answers}</legend>
          <Number_
            label={s.temperature}
            hint={s.temperatureHint}
            value={options.temperature}
            range={[0, 2, 0.1]}
            usual={0.7}
            set={(temperature) => set({ temperature })}
          />
          <Number_
            label={s.length}
            hint={s.lengthHint}
            value={options.max_tokens}
            range={[16, 4096, 16]}
            usual={512}
            set={(max_tokens) => set({ max_tokens })}
          />
          <Number_
            label={s.topK}
            hint={s.topKHint}
            value={options.top_k}
            range={[0, 200, 1]}
            usual={40}
            set={(top_k) => set({ top_k })}
          />
          <Check
            label={s.think}
            value={options.thinking_mode === true}
            set={(value) => set({ thinking_mode: value || null })}
          />
        </fieldset>
        <fieldset>
          <legend>{t.tags}</legend>
          <input
            aria-label={t.tagsLabel}
            placeholder={t.tagsHint}
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
          {saveLabel}
        </button>
      </form>
    </Dialog>
  );
}
