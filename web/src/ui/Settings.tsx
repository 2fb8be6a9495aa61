import { canNotify, setNotifications } from "../state/notify";
import {
  DEFAULTS,
  notifications,
  options,
  type Options,
  theme,
  type Theme,
} from "../state/preferences";
import { texts } from "../texts";
import { Dialog } from "./Dialog";
import { settings } from "./shell";

/** How answers are written, and how the page looks. */
export default function Settings() {
  const set = (change: Partial<Options>) => (options.value = { ...options.value, ...change });
  const t = texts.value.notifications;
  const { temperature, max_tokens, top_k, thinking_mode, force_web_search } = options.value;
  return (
    <Dialog title="Settings" class="settings" onClose={() => (settings.value = false)}>
      <fieldset>
        <legend>Answers</legend>
        <Number_
          label="Temperature"
          hint="0 always takes the most likely token; higher values vary more."
          value={temperature}
          range={[0, 2, 0.1]}
          usual={0.7}
          set={(value) => set({ temperature: value })}
        />
        <Number_
          label="Maximum length"
          hint="In tokens; a token is about three quarters of a word."
          value={max_tokens}
          range={[16, 4096, 16]}
          usual={512}
          set={(value) => set({ max_tokens: value })}
        />
        <Number_
          label="Top-k"
          hint="How many of the most likely tokens are considered."
          value={top_k}
          range={[0, 200, 1]}
          usual={40}
          set={(value) => set({ top_k: value })}
        />
        <Check
          label="Think step by step first"
          value={thinking_mode}
          set={(value) => set({ thinking_mode: value })}
        />
        <Check
          label="Search the web, if the model can"
          value={force_web_search}
          set={(value) => set({ force_web_search: value })}
        />
        <button type="button" class="small" onClick={() => set(DEFAULTS)}>
          Reset to the defaults
        </button>
      </fieldset>
      <fieldset>
        <legend>Appearance</legend>
        <div class="segments">
          {(["light", "dark", "system"] as Theme[]).map((name) => (
            <label key={name}>
              <input
                type="radio"
                name="theme"
                checked={theme.value === name}
                onChange={() => (theme.value = name)}
              />
              <span>{{ light: "Light", dark: "Dark", system: "System" }[name]}</span>
            </label>
          ))}
        </div>
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
  const id = label.toLowerCase().replace(/\W+/g, "-");
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
          default<span class="unseen"> {label.toLowerCase()}</span>
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
      <output for={id}>{value ?? "–"}</output>
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
