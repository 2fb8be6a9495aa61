import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Found } from "../api";
import { chat } from "../state/chats";
import * as conversations from "../state/conversations";
import { theme } from "../state/preferences";
import { go } from "../state/router";
import { MOST_FOUND, pieces, Search } from "../state/search";
import { nameOfDay, today } from "../time";
import { Dialog } from "./Dialog";
import { Icon, type IconName } from "./Icon";
import { isComposing, keysOf } from "./keys";
import { drawer, focusComposer, palette, settings, shortcuts } from "./shell";
import { texts } from "../texts";

interface Entry {
  id: string;
  icon?: IconName;
  text: string;
  aside: string;
  /** The matching part of a message. */
  found?: Found;
  run: () => void;
}

const MOST_KNOWN = 50;
const MOST_COMMANDS = 4;
/** The next page is loaded when the list is scrolled so near to its end. */
const NEAR_END_PX = 200;

/** Ctrl+K: finds a conversation or a command (WAI-ARIA combobox pattern). */
export function Palette() {
  const t = texts.value.palette;
  const [query, setQuery] = useState("");
  const [chosenId, setChosenId] = useState("");
  const list = useRef<HTMLUListElement>(null);
  const search = useMemo(() => new Search(), []);
  useEffect(() => () => search.end(), []);

  const known = conversations.known.value;
  const found = search.found.value;
  const searching = search.searching.value;
  const entries = useMemo(() => entriesOf(query, known, found), [query, known, found]);
  const at = Math.max(
    0,
    entries.findIndex(({ id }) => id === chosenId),
  );
  const chosen = entries[at];

  useEffect(() => {
    list.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
    if (at >= entries.length - MOST_COMMANDS - 1) search.more();
  }, [chosen?.id]);

  const close = () => {
    palette.value = false;
  };
  const run = (entry: Entry | undefined) => {
    if (!entry) return;
    close();
    drawer.value = false;
    entry.run();
    if (!settings.peek() && !shortcuts.peek()) setTimeout(focusComposer);
  };

  return (
    <Dialog title={t.title} plain class="palette" onClose={close}>
      <div class="find">
        <Icon name="search" />
        <input
          type="text"
          role="combobox"
          aria-label={t.label}
          aria-expanded="true"
          aria-controls="found"
          aria-activedescendant={chosen && `found-${chosen.id}`}
          placeholder={t.placeholder}
          dir="auto"
          autoFocus
          value={query}
          onInput={(event) => {
            setQuery(event.currentTarget.value);
            search.change(event.currentTarget.value);
            setChosenId("");
          }}
          onKeyDown={(event) => {
            if (isComposing(event)) return;
            const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
            if (step) setChosenId(entries.at((at + step) % entries.length)?.id ?? "");
            else if (event.key === "Enter") run(chosen);
            else return;
            event.preventDefault();
          }}
        />
        {searching && <span class="spinner" role="img" aria-label={t.searching} />}
      </div>
      <ul
        id="found"
        role="listbox"
        aria-label={t.found}
        ref={list}
        onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
          if (scrollHeight - scrollTop - clientHeight < NEAR_END_PX) search.more();
        }}
      >
        {entries.map((entry) => (
          <li
            key={entry.id}
            id={`found-${entry.id}`}
            role="option"
            aria-selected={entry === chosen}
            onPointerMove={() => setChosenId(entry.id)}
            onClick={() => run(entry)}
          >
            {entry.icon && <Icon name={entry.icon} />}
            <span dir="auto">
              {entry.text}
              {entry.found && <Snippet found={entry.found} />}
            </span>
            <small>{entry.aside}</small>
          </li>
        ))}
      </ul>
      {search.problem.value && (
        <p class="nothing" role="alert">
          {t.failed(search.problem.value)}
        </p>
      )}
      {found.length >= MOST_FOUND && <p class="nothing">{t.onlyNewest}</p>}
      {entries.length === 0 && !searching && !search.problem.value && (
        <p class="nothing">{t.nothing}</p>
      )}
    </Dialog>
  );
}

function Snippet({ found: { snippet, matches } }: { found: Found }) {
  return (
    <small class="snippet" dir="auto">
      {pieces(snippet, matches).map(({ text, match }, index) =>
        match ? <mark key={index}>{text}</mark> : text,
      )}
    </small>
  );
}

/** First the loaded titles, at once; then the hits of the service. */
function entriesOf(query: string, known: conversations.Listed[], found: Found[]): Entry[] {
  const words = query.toLocaleLowerCase().split(/\s+/).filter(Boolean);
  const fits = ({ text }: Entry) => words.every((word) => text.toLocaleLowerCase().includes(word));
  const entry = (item: { id: string; title: string }, day: string): Entry => ({
    id: item.id,
    text: item.title,
    aside: nameOfDay(day),
    run: () => go(item.id),
  });
  const titles = known
    .map((item) => entry(item, item.day))
    .filter(fits)
    .slice(0, MOST_KNOWN);
  const shown = new Set(titles.map(({ id }) => id));
  const hits = found
    .filter(({ conversation }) => !conversations.isDeleted(conversation.id))
    .filter(({ conversation, message }) => message ?? !shown.has(conversation.id))
    .map((hit): Entry => {
      const { conversation, message } = hit;
      const when = new Date(message?.created_at ?? conversation.updated_at);
      const plain = entry(conversation, today(when));
      if (!message) return plain;
      const run = () => {
        plain.run();
        void chat.peek()?.showFound(message.id);
      };
      return { ...plain, id: `${plain.id}-${message.id}`, found: hit, run };
    });
  return [...titles, ...hits, ...commands().filter(fits)];
}

function commands(): Entry[] {
  const { page, palette, settings: s, shortcuts: keys } = texts.value;
  return [
    {
      id: "new",
      icon: "plus",
      text: page.newConversation,
      aside: keysOf("newConversation").join("+"),
      run: () => go(undefined),
    },
    {
      id: "theme",
      icon: "moon",
      text: palette.theme,
      aside: "",
      run: () =>
        (theme.value = document.documentElement.dataset["theme"] === "dark" ? "light" : "dark"),
    },
    {
      id: "settings",
      icon: "sliders",
      text: s.title,
      aside: "",
      run: () => (settings.value = true),
    },
    {
      id: "shortcuts",
      icon: "keys",
      text: keys.title,
      aside: keysOf("help").join("+"),
      run: () => (shortcuts.value = true),
    },
  ];
}
