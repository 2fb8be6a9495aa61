import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import * as conversations from "../state/conversations";
import type { Listed } from "../state/conversations";
import { chat } from "../state/chats";
import { running, unread } from "../state/marks";
import { theme, type Theme } from "../state/preferences";
import { addressOf, go, openId } from "../state/router";
import { session, signOut } from "../state/session";
import { texts } from "../texts";
import { nameOfDay } from "../time";
import { Icon, type IconName, Mark } from "./Icon";
import { isComposing, pressed } from "./keys";
import { memo } from "./memo";
import { Menu } from "./Menu";
import { drawer, focusComposer, palette, settings, shortcuts } from "./shell";
import { rowsWithin, type Sizes, useSizes, useWindow } from "./window";

export function Sidebar() {
  const { page, palette: palette_, sidebar: t } = texts.value;
  return (
    <>
      <div class="brand">
        <a href="/" aria-label={t.home} onClick={follow(undefined)}>
          <Mark />
          <span>
            samosa<b>Chaat</b>
          </span>
        </a>
        <button
          type="button"
          class="tool only-narrow"
          aria-label={t.close}
          onClick={() => (drawer.value = false)}
        >
          <Icon name="close" />
        </button>
      </div>
      <div class="actions">
        <a
          class="new"
          href="/"
          onClick={follow(undefined)}
          aria-current={openId.value === undefined ? "page" : undefined}
        >
          <Icon name="plus" /> {page.newConversation}
        </a>
        <button
          type="button"
          class="tool"
          title={palette_.titleHint}
          aria-label={palette_.title}
          onClick={() => (palette.value = true)}
        >
          <Icon name="search" />
        </button>
        <TagMenu />
      </div>
      <TagFilter />
      <List />
      <Person />
    </>
  );
}

/** Chooses the tag whose conversations are listed. */
function TagMenu() {
  const { filter, tags, listOnly } = conversations;
  const t = texts.value.tags;
  if (tags.value.length === 0) return null;
  return (
    <Menu
      label={t.filter}
      class={filter.value === undefined ? "tool" : "tool set"}
      button={<Icon name="tag" />}
      items={[undefined, ...tags.value].map((tag) => ({
        label: <span dir="auto">{tag ?? t.all}</span>,
        checked: tag === filter.value,
        run: () => listOnly(tag),
      }))}
    />
  );
}

/** The tag whose conversations are listed, if not all are. */
function TagFilter() {
  const { filter, listOnly } = conversations;
  const t = texts.value.tags;
  if (filter.value === undefined) return null;
  return (
    <p class="filter">
      <span class="unseen">{t.shown(filter.value)}</span>
      <Icon name="tag" />
      <span aria-hidden="true" dir="auto">
        {filter.value}
      </span>
      <button
        type="button"
        class="tool"
        aria-label={t.clear}
        title={t.clear}
        onClick={() => listOnly(undefined)}
      >
        <Icon name="close" />
      </button>
    </p>
  );
}

function List() {
  const { groups, nextCursor, problem, loading } = conversations;
  const box = useRef<HTMLElement>(null);
  const end = useRef<HTMLDivElement>(null);
  const near = useWindow(box);
  const sizes = useSizes(box, "h2", ".row:not(.renaming)");
  useEffect(() => {
    const watcher = new IntersectionObserver(
      (entries) => {
        if (entries.some((entry) => entry.isIntersecting)) void conversations.loadMore();
      },
      { root: end.current!.closest(".list"), rootMargin: "300px" },
    );
    watcher.observe(end.current!);
    return () => watcher.disconnect();
    // Observed again after each page: a short one may leave the end in sight.
  }, [nextCursor.value]);
  const first = nextCursor.value === undefined;
  return (
    <nav
      class="list"
      ref={box}
      aria-label={texts.value.page.conversations}
      tabIndex={-1}
      onKeyDown={walk}
      onScroll={near.onScroll}
    >
      <Days groups={groups.value} near={near} sizes={sizes} />
      {first && !problem.value && <Skeleton />}
      {!first && groups.value.length === 0 && !problem.value && (
        <p class="nothing">
          {conversations.filter.value === undefined
            ? texts.value.sidebar.empty
            : texts.value.tags.none}
        </p>
      )}
      {problem.value && (
        <p class="nothing">
          {problem.value}{" "}
          <button type="button" class="link" onClick={() => void conversations.refresh()}>
            {texts.value.tryAgain}
          </button>
        </p>
      )}
      <div ref={end} class="end" aria-hidden="true">
        {loading.value && <span class="spinner" />}
      </div>
    </nav>
  );
}

/** The days and their conversations; of a long list only the rows near the visible part. */
function Days({ groups, near, sizes }: DaysProps) {
  const parts: ComponentChildren[] = [];
  let top = 0;
  let left = 0;
  for (const { day, items } of groups) {
    const height = sizes.heading + items.length * sizes.row;
    if (top + height < near.from || top > near.to) left += height;
    else {
      if (left > 0) parts.push(<div key={`before ${day}`} style={{ height: `${left}px` }} />);
      left = 0;
      const [first, end] = rowsWithin(near, top + sizes.heading, sizes.row, items.length);
      parts.push(
        <section key={day} aria-labelledby={`day-${day}`}>
          <h2 id={`day-${day}`}>
            {day === "favourites" ? texts.value.sidebar.favourites : nameOfDay(day)}
          </h2>
          <ul
            style={{
              paddingBlockStart: `${first * sizes.row}px`,
              paddingBlockEnd: `${(items.length - end) * sizes.row}px`,
            }}
          >
            {items.slice(first, end).map((item) => (
              <Row
                key={item.id}
                item={item}
                open={item.id === openId.value}
                mark={markOf(item.id)}
              />
            ))}
          </ul>
        </section>,
      );
    }
    top += height;
  }
  if (left > 0) parts.push(<div key="after" style={{ height: `${left}px` }} />);
  return <>{parts}</>;
}

interface DaysProps {
  groups: conversations.Group[];
  near: { from: number; to: number };
  sizes: Sizes;
}

/** The arrow keys go from one conversation to the next. */
function walk(event: KeyboardEvent & { currentTarget: HTMLElement }): void {
  const step = Number(pressed(event, "next")) - Number(pressed(event, "previous"));
  const links = [...event.currentTarget.querySelectorAll("a")];
  const at = links.findIndex((link) => link === document.activeElement);
  if (!step || at < 0) return;
  event.preventDefault();
  links[at + step]?.focus();
}

function Skeleton() {
  return (
    <div class="skeleton" aria-hidden="true">
      {[70, 52, 84, 60, 76].map((width) => (
        <i key={width} style={{ width: `${width}%` }} />
      ))}
    </div>
  );
}

/** Marks a conversation with a running answer or an unread one. */
type RowMark = "busy" | "unread" | undefined;

function markOf(id: string): RowMark {
  // The state of the open conversation is known without the change feed.
  const isOpen = id === openId.value && chat.value !== undefined;
  const isBusy = isOpen ? chat.value!.answering.value : running.value.has(id);
  return isBusy ? "busy" : unread.value.has(id) ? "unread" : undefined;
}

interface RowProps {
  item: Listed;
  open: boolean;
  mark: RowMark;
}

const Row = memo(
  ConversationRow,
  (before, after) =>
    before.item === after.item && before.open === after.open && before.mark === after.mark,
);

function ConversationRow({ item, open, mark }: RowProps) {
  const t = texts.value.conversation;
  const [renaming, setRenaming] = useState(false);
  const link = useRef<HTMLAnchorElement>(null);
  const ended = () => {
    setRenaming(false);
    requestAnimationFrame(() => link.current?.focus());
  };
  if (renaming) {
    return (
      <li class="row renaming">
        <Rename item={item} onEnd={ended} />
      </li>
    );
  }
  const remove = () => {
    const row = link.current!.closest("li")!;
    const near = (row.nextElementSibling ?? row.previousElementSibling)?.querySelector("a");
    conversations.remove(item);
    near?.focus();
  };
  const favourite = () => void conversations.change(item.id, { is_favorited: !item.is_favorited });
  return (
    <li class={open ? "row open" : "row"}>
      <a
        ref={link}
        href={addressOf(item.id)}
        title={item.title}
        aria-current={open ? "page" : undefined}
        onClick={follow(item.id)}
        onDblClick={() => setRenaming(true)}
        onKeyDown={(event) => {
          if (pressed(event, "rename")) setRenaming(true);
          else if (pressed(event, "remove")) remove();
          else return;
          event.preventDefault();
        }}
      >
        {item.is_favorited && <Icon name="star" filled />}
        <span dir="auto">{item.title}</span>
        {item.tags && item.tags.length > 0 && (
          <small class="row-tags" dir="auto">
            {item.tags.join(", ")}
          </small>
        )}
      </a>
      {mark && <i class={mark} role="img" aria-label={mark === "busy" ? t.answering : t.unread} />}
      <Menu
        label={t.more(item.title)}
        class="tool more"
        button={<Icon name="more" />}
        items={[
          { label: entry("pen", t.rename), run: () => setRenaming(true) },
          {
            label: entry("star", item.is_favorited ? t.unfavour : t.favour),
            run: favourite,
          },
          {
            label: entry("file", t.exportIt),
            run: () => void conversations.download(item.id),
          },
          "line",
          { label: entry("bin", texts.value.delete), danger: true, run: remove },
        ]}
      />
    </li>
  );
}

function Rename({ item, onEnd }: { item: Listed; onEnd: () => void }) {
  const over = useRef(false);
  const end = (title: string | undefined) => {
    if (over.current) return;
    over.current = true;
    const wanted = title?.trim();
    if (wanted && wanted !== item.title) void conversations.change(item.id, { title: wanted });
    onEnd();
  };
  return (
    <input
      type="text"
      aria-label={texts.value.conversation.newTitle}
      dir="auto"
      maxLength={500}
      defaultValue={item.title}
      ref={(input) => {
        if (input && document.activeElement !== input) {
          input.focus();
          input.select();
        }
      }}
      onKeyDown={(event) => {
        if (isComposing(event)) return;
        if (event.key === "Enter") end(event.currentTarget.value);
        if (event.key === "Escape") end(undefined);
        event.stopPropagation();
      }}
      onBlur={(event) => end(event.currentTarget.value)}
    />
  );
}

const THEMES: [Theme, IconName][] = [
  ["light", "sun"],
  ["dark", "moon"],
  ["system", "screen"],
];

function Person() {
  const { settings: s, shortcuts: keys, sidebar: t } = texts.value;
  const user = session.value?.user;
  if (!user) return null;
  return (
    <div class="person">
      <Menu
        above
        label={t.person(user.name, user.is_admin === true)}
        class="who"
        button={
          <>
            <i class="initial" data-initial={[...user.name][0]?.toUpperCase()} />
            <span class="name">{user.name}</span> {user.is_admin && <small>{t.admin}</small>}
            <Icon name="chevron" />
          </>
        }
        items={[
          ...THEMES.map(([name, icon]) => ({
            label: entry(icon, s.themes[name]),
            checked: theme.value === name,
            run: () => (theme.value = name),
          })),
          "line",
          { label: entry("sliders", s.title), run: () => (settings.value = true) },
          {
            label: entry("keys", keys.title),
            run: () => (shortcuts.value = true),
          },
          { label: entry("exit", t.signOut), run: signOut },
        ]}
      />
    </div>
  );
}

function entry(icon: IconName, text: string) {
  return (
    <>
      <Icon name={icon} /> {text}
    </>
  );
}

/** Follows a link inside the page; with a modifier key, the browser does what it does. */
function follow(id: string | undefined) {
  return (event: MouseEvent) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    go(id);
    drawer.value = false;
    focusComposer();
  };
}
