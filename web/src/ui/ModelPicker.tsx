import { useEffect, useState } from "preact/hooks";
import * as conversations from "../state/conversations";
import * as models from "../state/models";
import { openId } from "../state/router";
import { session } from "../state/session";
import { Icon } from "./Icon";
import { Menu } from "./Menu";

/** Which model answers; an administrator can have another one loaded. */
export function ModelPicker() {
  const { models: known, current, swapping, problem } = models;
  const busy = swapping.value;
  const mayChange = session.value?.user.is_admin !== false;
  const list = known.value?.models ?? [];

  const pick = async (tag: string) => {
    if (tag !== current.value && !(await models.swap(tag))) return;
    const id = openId.peek();
    if (id !== undefined && conversations.conversation(id)?.model_tag !== tag) {
      await conversations.change(id, { model_tag: tag });
    }
  };

  if (busy) return <Swapping key={busy.tag} tag={busy.tag} since={busy.since} />;
  return (
    <Menu
      label={`Model: ${current.value ?? "not known"}`}
      class="model"
      onOpen={() => void models.refresh()}
      button={
        <>
          <span>{current.value ?? (problem.value ? "No model" : "…")}</span>
          <Icon name="chevron" />
        </>
      }
      items={list.map((model) => ({
        label: (
          <span class="model-entry">
            <b>{model.model_tag}</b>
            <small>
              {model.loaded ? "loaded" : model.available ? `from ${model.source}` : "not available"}
            </small>
          </span>
        ),
        checked: model.model_tag === current.value,
        disabled: !model.available || (!mayChange && !model.loaded),
        run: () => void pick(model.model_tag),
      }))}
      note={note(problem.value, mayChange, list.length)}
    />
  );
}

function note(problem: string, mayChange: boolean, count: number): string | undefined {
  if (problem) return problem;
  if (!mayChange) return "An administrator can load another model.";
  return count === 1
    ? "To add a model, put it into the models folder of the local stack."
    : "Loading another model can take minutes, and changes it for all users.";
}

function Swapping({ tag, since }: { tag: string; since: number }) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return (
    <div class="model swapping">
      <span>Loading {tag}…</span>
      <small>{Math.max(0, Math.round((now - since) / 1000))} s</small>
      <div class="bar" role="progressbar" aria-label={`Loading ${tag}`} />
    </div>
  );
}
