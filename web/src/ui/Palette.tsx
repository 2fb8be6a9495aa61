import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import * as conversations from "../state/conversations";
import { theme } from "../state/preferences";
import { go } from "../state/router";
import { nameOfDay } from "../time";
import { Dialog } from "./Dialog";
import { Icon, type IconName } from "./Icon";
import { drawer, focusComposer, palette, settings } from "./shell";

interface Entry {
  id: string;
  icon: IconName;
  text: string;
  aside: string;
  run: () => void;
}

const MOST_SHOWN = 50;

/** Ctrl+K: to any conversation, or to what else one may want (WAI-ARIA combobox pattern). */
export function Palette() {
  const [query, setQuery] = useState("");
  const [at, setAt] = useState(0);
  const list = useRef<HTMLUListElement>(null);
  const known = conversations.known.value;
  const searching = typeof conversations.nextCursor.value === "string";

  useEffect(() => {
    let open = true;
    void conversations.loadAll(() => open);
    return () => {
      open = false;
    };
  }, []);

  const entries = useMemo(() => {
    const words = query.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    const fits = ({ text }: Entry) =>
      words.every((word) => text.toLocaleLowerCase().includes(word));
    const found = known.map((item): Entry => ({
      id: item.id,
      icon: "star",
      text: item.title,
      aside: nameOfDay(item.day),
      run: () => go(item.id),
    }));
    return [...found.filter(fits).slice(0, MOST_SHOWN), ...COMMANDS.filter(fits)];
  }, [query, known]);
  const chosen = Math.min(at, entries.length - 1);

  useEffect(() => {
    list.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  }, [chosen]);

  const close = () => {
    palette.value = false;
  };
  const run = (entry: Entry | undefined) => {
    if (!entry) return;
    close();
    drawer.value = false;
    entry.run();
    if (!settings.peek()) setTimeout(focusComposer);
  };

  return (
    <Dialog title="Find a conversation" plain class="palette" onClose={close}>
      <div class="find">
        <Icon name="search" />
        <input
          type="text"
          role="combobox"
          aria-label="Find a conversation or a command"
          aria-expanded="true"
          aria-controls="found"
          aria-activedescendant={entries[chosen] ? `found-${entries[chosen].id}` : undefined}
          placeholder="Where to?"
          autoFocus
          value={query}
          onInput={(event) => {
            setQuery(event.currentTarget.value);
            setAt(0);
          }}
          onKeyDown={(event) => {
            if (event.isComposing) return;
            const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
            if (step) setAt((chosen + step + entries.length) % entries.length);
            else if (event.key === "Enter") run(entries[chosen]);
            else return;
            event.preventDefault();
          }}
        />
        {searching && <span class="spinner" role="img" aria-label="Looking further back" />}
      </div>
      <ul id="found" role="listbox" aria-label="Found" ref={list}>
        {entries.map((entry, index) => (
          <li
            key={entry.id}
            id={`found-${entry.id}`}
            role="option"
            aria-selected={index === chosen}
            onPointerMove={() => setAt(index)}
            onClick={() => run(entry)}
          >
            {entry.icon !== "star" && <Icon name={entry.icon} />}
            <span>{entry.text}</span>
            <small>{entry.aside}</small>
          </li>
        ))}
      </ul>
      {entries.length === 0 && (
        <p class="nothing">Nothing of that name{searching ? " so far" : ""}.</p>
      )}
    </Dialog>
  );
}

const COMMANDS: Entry[] = [
  {
    id: "new",
    icon: "plus",
    text: "New conversation",
    aside: "Ctrl+Shift+O",
    run: () => go(undefined),
  },
  {
    id: "theme",
    icon: "moon",
    text: "Light or dark",
    aside: "",
    run: () =>
      (theme.value = document.documentElement.dataset["theme"] === "dark" ? "light" : "dark"),
  },
  {
    id: "settings",
    icon: "sliders",
    text: "Settings",
    aside: "",
    run: () => (settings.value = true),
  },
];
