import { canNotify, setNotifications } from "../state/notify";
import {
  DEFAULTS,
  language,
  notifications,
  options,
  type Options,
  theme,
  type Theme,
} from "../state/preferences";
import { type Language, LANGUAGES, number, texts } from "../texts";
import { Dialog } from "./Dialog";
import { settings } from "./shell";
import { useId } from "preact/hooks";

/** Options of answers, and appearance of the page. */
export default function Settings() {
  const set = (change: Partial<Options>) => (options.value = { ...options.value, ...change });
  const { notifications: t, settings: s } = texts.value;
  const { temperature, max_tokens, top_k, thinking_mode, force_web_search } = options.value;
  return (
    <Dialog title={s.title} class="settings" onClose={() => (settings.value = false)}>
      <fieldset>
        <legend>{s.answers}</legend>
        <Number_
          label={s.temperature}
          hint={s.temperatureHint}
          value={temperature}
          range={[0, 2, 0.1]}
          usual={0.7}
          set={(value) => set({ temperature: value })}
        />
        <Number_
          label={s.length}
          hint={s.lengthHint}
          value={max_tokens}
          range={[16, 4096, 16]}
          usual={512}
          set={(value) => set({ max_tokens: value })}
        />
        <Number_
          label={s.topK}
          hint={s.topKHint}
          value={top_k}
          range={[0, 200, 1]}
          usual={40}
          set={(value) => set({ top_k: value })}
        />
        <Check
          label={s.think}
          value={thinking_mode}
          set={(value) => set({ thinking_mode: value })}
        />
        <Check
          label={s.searchWeb}
          value={force_web_search}
          set={(value) => set({ force_web_search: value })}
        />
        <button type="button" class="small" onClick={() => set(DEFAULTS)}>
          {s.reset}
        </button>
      </fieldset>
      <fieldset>
        <legend>{s.appearance}</legend>
        <div class="segments">
          {(["light", "dark", "system"] as Theme[]).map((name) => (
            <label key={name}>
              <input
                type="radio"
                name="theme"
                checked={theme.value === name}
                onChange={() => (theme.value = name)}
              />
              <span>{s.themes[name]}</span>
            </label>
          ))}
        </div>
      </fieldset>
      <fieldset>
        <legend id="language">{s.language}</legend>
        <select
          aria-labelledby="language"
          value={language.value ?? ""}
          onChange={({ currentTarget: { value } }) =>
            (language.value = value === "" ? null : (value as Language))
          }
        >
          <option value="">{s.languageOfBrowser}</option>
          {Object.entries(LANGUAGES).map(([tag, name]) => (
            <option key={tag} value={tag} lang={tag}>
              {name}
            </option>
          ))}
        </select>
      </fieldset>
      {canNotify && (
        <fieldset>
          <legend>{t.title}</legend>
          <Check label={t.label} value={notifications.value} set={setNotifications} />
        </fieldset>
      )}
    </Dialog>
  );
}

interface NumberProps {
  label: string;
  hint: string;
  value: number | null;
  range: [min: number, max: number, step: number];
  usual: number;
  set: (value: number | null) => void;
}

/** A number, or the default of the model. */
export function Number_({ label, hint, value, range: [min, max, step], usual, set }: NumberProps) {
  const id = useId();
  const { standard, standardOf } = texts.value.settings;
  return (
    <div class="number">
      <label for={id}>{label}</label>
      <label class="check">
        <input
          type="checkbox"
          checked={value === null}
          onChange={(event) => set(event.currentTarget.checked ? null : usual)}
        />
        <span>
          {standard}
          <span class="unseen">{standardOf(label)}</span>
        </span>
      </label>
      <input
        id={id}
        type="range"
        min={min}
        max={max}
        step={step}
        value={value ?? usual}
        disabled={value === null}
        aria-describedby={`${id}-hint`}
        onInput={(event) => set(Number(event.currentTarget.value))}
      />
      <output for={id}>{value === null ? "–" : number(value)}</output>
      <small id={`${id}-hint`}>{hint}</small>
    </div>
  );
}

export function Check({
  label,
  value,
  set,
}: {
  label: string;
  value: boolean;
  set: (value: boolean) => unknown;
}) {
  return (
    <label class="check">
      <input
        type="checkbox"
        checked={value}
        onChange={(event) => set(event.currentTarget.checked)}
      />
      <span>{label}</span>
    </label>
  );
}
