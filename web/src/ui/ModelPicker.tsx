import { useEffect, useState } from "preact/hooks";
import type { Models } from "../api";
import * as conversations from "../state/conversations";
import * as models from "../state/models";
import { openId } from "../state/router";
import { session } from "../state/session";
import { Icon } from "./Icon";
import { Menu } from "./Menu";
import { number, texts } from "../texts";

type Model = Models["models"][number];

/** Which model answers in this conversation; an administrator can have another one loaded. */
export function ModelPicker() {
  const t = texts.value.models;
  const { models: known, swapping, problem } = models;
  const busy = swapping.value;
  const mayChange = session.value?.user.is_admin !== false;
  const list = known.value?.models ?? [];
  const current = models.modelOf(openId.value);
  const engines = new Set(list.map(({ source }) => source));
  const isOneOfMany = engines.size > 1 || list.filter(({ loaded }) => loaded).length > 1;

  const pick = async ({ model_tag, loaded }: Model) => {
    const id = openId.peek();
    if (!loaded && !(await models.swap(model_tag))) return;
    if (id === undefined) models.picked.value = model_tag;
    else if (conversations.conversation(id)?.model_tag !== model_tag) {
      await conversations.change(id, { model_tag });
    }
  };

  if (busy) return <Swapping key={busy.tag} tag={busy.tag} since={busy.since} />;
  return (
    <Menu
      label={t.button(current ?? t.notKnown)}
      class="model"
      onOpen={() => void models.refresh()}
      button={
        <>
          <span>{current ?? (problem.value ? t.none : "…")}</span>
          <Icon name="chevron" />
        </>
      }
      items={list.map((model) => ({
        label: (
          <span class="model-entry">
            <b>{nameOf(model)}</b>
            <small>{stateOf(model, isOneOfMany)}</small>
          </span>
        ),
        checked: model.model_tag === current,
        disabled: !model.available || (!mayChange && !model.loaded),
        run: () => void pick(model),
      }))}
      note={note(problem.value, mayChange, list)}
    />
  );
}

/** The name without its engine's, which is shown beside it. */
function nameOf({ model_tag, source }: Model): string {
  const name = model_tag.startsWith(`${source}/`) ? model_tag.slice(source.length + 1) : model_tag;
  return name || source;
}

function stateOf({ source, available, loaded }: Model, isOneOfMany: boolean): string {
  const t = texts.value.models;
  if (isOneOfMany) return available ? source : t.engineNotAvailable(source);
  return loaded ? t.loaded : available ? t.from(source) : t.notAvailable;
}

function note(problem: string, mayChange: boolean, list: Model[]): string | undefined {
  if (problem) return problem;
  const t = texts.value.models;
  const count = list.length;
  if (count > 0 && list.every(({ available, loaded }) => loaded || !available)) return undefined;
  if (!mayChange) return t.askAdministrator;
  return count === 1 ? t.add : t.takesMinutes;
}

function Swapping({ tag, since }: { tag: string; since: number }) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  const label = texts.value.models.loading(tag);
  return (
    <div class="model swapping">
      <span>{label}…</span>
      <small>{texts.value.seconds(number(Math.max(0, Math.round((now - since) / 1000))))}</small>
      <div class="bar" role="progressbar" aria-label={label} />
    </div>
  );
}
