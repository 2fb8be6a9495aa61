// The list of conversations: pages, groups by day, and the actions on its items.

import { batch, computed, signal } from "@preact/signals";
import { type Change, type Conversation, Unreachable } from "../api";
import { Refused } from "../stream";
import { texts } from "../texts";
import { today } from "../time";
import { go, openId } from "./router";
import { announce, toast } from "./say";
import { api, refused } from "./service";
import { personal, session } from "./session";
import { onChange, read, write } from "./storage";
import { tell } from "./tabs";
import { explain } from "./explain";

/** A conversation and the day (in the person's own time zone) that it is listed under. */
export type Listed = Conversation & { day: string };

export interface Group {
  /** A date, or the favourites. */
  day: string | "favourites";
  items: Listed[];
}

const PAGE = 40;
const MOST_PER_PAGE = 200;
const UNDO_MS = 7_000;

export const items = signal<Listed[]>([]);
/** Where the next page begins; null at the end, undefined before the first page. */
export const nextCursor = signal<string | null | undefined>(undefined);
export const loading = signal(false);
export const problem = signal("");
/** Only conversations with this tag are listed. */
export const filter = signal<string | undefined>(undefined);
/** Conversations of pages that are not loaded: favourites, and opened ones. */
const strays = signal<Listed[]>([]);

/** Deleted when the time for an undo is over: id to a time in ms since 1970. */
const doomed = signal<Record<string, number>>({});

const shown = computed(() => items.value.filter((item) => !(item.id in doomed.value)));
const fits = ({ tags }: Listed) =>
  filter.value === undefined || (tags?.includes(filter.value) ?? false);

/** All loaded conversations, newest activity first. */
export const known = computed(() => {
  const listed = new Set(items.value.map((item) => item.id));
  const others = strays.value.filter((item) => !listed.has(item.id) && !(item.id in doomed.value));
  return [...shown.value, ...others].sort(byActivity);
});

export const groups = computed<Group[]>(() => {
  const favourites = known.value.filter((item) => item.is_favorited && fits(item));
  const found: Group[] = favourites.length ? [{ day: "favourites", items: favourites }] : [];
  for (const item of shown.value) {
    if (item.is_favorited || !fits(item)) continue;
    const last = found.at(-1);
    if (last?.day === item.day) last.items.push(item);
    else found.push({ day: item.day, items: [item] });
  }
  return found;
});

/** The tags of all conversations as the service listed them last. */
const listedTags = signal<string[]>([]);

/** The tags of all conversations, also of those that are not loaded, sorted. */
export const tags = computed(() => {
  const all = new Set([...listedTags.value, ...known.value.flatMap((item) => item.tags ?? [])]);
  if (filter.value !== undefined) all.add(filter.value);
  return [...all].sort((one, other) => one.localeCompare(other));
});

/** Lists only the conversations with this tag; all of them without one. */
export function listOnly(tag: string | undefined): void {
  if (filter.peek() === tag) return;
  batch(() => {
    filter.value = tag;
    const listed = new Set(items.peek().map((item) => item.id));
    strays.value = [...strays.peek().filter(({ id }) => !listed.has(id)), ...items.peek()];
    items.value = [];
    nextCursor.value = undefined;
    problem.value = "";
  });
  void refresh();
}

/** Whether it has been deleted here, though the service may still have it. */
export function isDeleted(id: string): boolean {
  return id in doomed.value;
}

export function conversation(id: string): Listed | undefined {
  return items.value.find((item) => item.id === id) ?? strays.value.find((item) => item.id === id);
}

const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;

/** One page, each item with its day. A browser's zone may be newer than the service's table. */
async function page(
  limit: number,
  { cursor, favorited, tag }: { cursor?: string; favorited?: true; tag?: string | undefined },
): Promise<{ items: Listed[]; next: string | null }> {
  const query = { limit, cursor, favorited, tag };
  const answer = await api.conversations({ ...query, tz: zone() }).catch((error: unknown) => {
    if (!(error instanceof Refused) || error.status !== 422) throw error;
    return api.conversations({ ...query, tz: "UTC" });
  });
  const before = new Map(items.peek().map((item) => [item.id, item]));
  const listed = Object.entries(answer.grouped).flatMap(([day, group]) =>
    group.map((item) => unchanged({ ...item, day }, before.get(item.id))),
  );
  return { items: listed, next: answer.next_cursor };
}

/** The same object as before if nothing has changed, so that its row is not rendered again. */
function unchanged(now: Listed, before: Listed | undefined): Listed {
  return JSON.stringify(now) === JSON.stringify(before) ? before! : now;
}

let refreshing: Promise<void> | undefined;
let stale = false;

/** Loads the newest page again; older items stay as they are. One request at a time. */
export function refresh(): Promise<void> {
  if (refreshing) stale = true;
  refreshing ??= loadFirst().finally(() => {
    refreshing = undefined;
    if (!stale) return;
    stale = false;
    return refresh();
  });
  return refreshing;
}

async function loadFirst(): Promise<void> {
  const whose = session.peek()?.user.id;
  if (whose === undefined) return;
  try {
    const tag = filter.peek();
    const first = await page(PAGE, { tag });
    if (session.peek()?.user.id !== whose || filter.peek() !== tag) return;
    batch(() => {
      const last = first.items.at(-1);
      const rest = items
        .peek()
        .filter((item) => last !== undefined && first.next !== null && follows(item, last));
      items.value = [...first.items, ...rest];
      // If something older is known already, the cursor of its page stays.
      if (rest.length === 0) nextCursor.value = first.next;
      problem.value = "";
    });
  } catch (error) {
    fail(error);
  }
}

/** Shows why the list is missing, unless the page already shows that there is no service. */
function fail(error: unknown): void {
  refused(error);
  if (error instanceof Unreachable && items.peek().length > 0) return;
  problem.value = explain(error);
}

export async function loadMore(): Promise<void> {
  const cursor = nextCursor.peek();
  if (loading.peek() || cursor === null) return;
  if (cursor === undefined) return refreshing ?? refresh();
  loading.value = true;
  try {
    const tag = filter.peek();
    const more = await page(PAGE, { cursor, tag });
    if (filter.peek() !== tag) return;
    batch(() => {
      const have = new Set(items.peek().map((item) => item.id));
      items.value = [...items.peek(), ...more.items.filter((item) => !have.has(item.id))];
      nextCursor.value = more.next;
      problem.value = "";
    });
  } catch (error) {
    fail(error);
  } finally {
    loading.value = false;
  }
}

/** Loads the favourites, wherever in the list they are. */
export async function findFavourites(): Promise<void> {
  const whose = session.peek()?.user.id;
  const found: Listed[] = [];
  try {
    let cursor: string | null | undefined;
    do {
      const more = await page(MOST_PER_PAGE, { ...(cursor && { cursor }), favorited: true });
      const favourites = more.items.filter((item) => item.is_favorited);
      found.push(...favourites);
      // A service that does not know the filter lists everything: that is not read to its end.
      cursor = favourites.length === more.items.length ? more.next : null;
    } while (cursor !== null);
  } catch (error) {
    refused(error); // they turn up while scrolling
    return;
  }
  if (session.peek()?.user.id !== whose) return;
  const others = strays.peek().filter((item) => !item.is_favorited);
  const ids = new Set(found.map((item) => item.id));
  strays.value = [...others.filter((item) => !ids.has(item.id)), ...found];
}

/** Loads the tags of all conversations. */
export async function findTags(): Promise<void> {
  const whose = session.peek()?.user.id;
  try {
    const found = await api.tags();
    if (session.peek()?.user.id === whose) listedTags.value = found;
  } catch (error) {
    refused(error); // those of the loaded conversations are known
  }
}

export function forget(): void {
  batch(() => {
    listedTags.value = [];
    items.value = [];
    strays.value = [];
    filter.value = undefined;
    nextCursor.value = undefined;
    problem.value = "";
  });
}

export async function create(model: string | undefined): Promise<Conversation> {
  const created = await api.create(model === undefined ? {} : { model_tag: model });
  put(created);
  return created;
}

/** Stores the service's state of one conversation. */
export function put(changed: Conversation): void {
  const { id, user_id, title, model_tag, is_favorited, created_at, updated_at } = changed;
  const { instructions, options, tags, metadata } = changed;
  const more = { instructions, options, tags, metadata };
  const own = { id, user_id, title, model_tag, is_favorited, created_at, updated_at, ...more };
  const before = conversation(id);
  const day = before?.updated_at === updated_at ? before.day : today(new Date(updated_at));
  const item = { ...own, day };
  const last = items.peek().at(-1);
  const unseen = nextCursor.peek() !== null && (last === undefined || follows(item, last));
  if (String(before?.tags ?? []) !== String(tags ?? [])) void findTags();
  const without = (list: Listed[]) => list.filter((one) => one.id !== id);
  batch(() => {
    if (unseen) strays.value = [...without(strays.peek()), item];
    else {
      items.value = [...without(items.peek()), item].sort(byActivity);
      strays.value = without(strays.peek());
    }
  });
}

/** Applies a change at once, and reverts it if the service refuses; whether it was saved. */
export async function change(id: string, fields: Change): Promise<boolean> {
  const before = conversation(id);
  if (before) replace({ ...before, ...fields });
  try {
    const after = await api.change(id, fields);
    const now = conversation(id);
    if (now) replace({ ...now, ...after });
    if (fields.tags) void findTags();
    tell({ type: "list" });
    return true;
  } catch (error) {
    refused(error);
    if (before) replace(before);
    toast(texts.peek().conversation.notSaved(explain(error)));
    return false;
  }
}

/** Downloads the conversation as a Markdown file. */
export async function download(id: string): Promise<void> {
  try {
    const { file, name } = await api.export(id);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = name;
    link.click();
    // The download has the file by then, or will not take it.
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } catch (error) {
    refused(error);
    toast(texts.peek().conversation.notExported(explain(error)));
  }
}

/** Removes a conversation that was deleted elsewhere. */
export function drop(id: string): void {
  batch(() => {
    items.value = items.peek().filter((item) => item.id !== id);
    strays.value = strays.peek().filter((item) => item.id !== id);
  });
}

function replace(item: Listed): void {
  const swap = (list: Listed[]) => list.map((one) => (one.id === item.id ? item : one));
  batch(() => {
    items.value = swap(items.peek());
    strays.value = swap(strays.peek());
  });
}

function byActivity(one: Conversation, other: Conversation): number {
  return follows(one, other) ? 1 : -1;
}

/** Whether `item` comes after `other` in the list. */
function follows(item: Conversation, other: Conversation): boolean {
  return item.updated_at === other.updated_at
    ? item.id < other.id
    : item.updated_at < other.updated_at;
}

// Deleting. The conversation goes from the screen at once and from the service when no tab can undo
// it any more: after a while, or when the page is left. The list of those to go is kept, so that
// none comes back to life where the last request was lost.

const timers = new Map<string, ReturnType<typeof setTimeout>>();
const DOOMED = "deleting";

export function remove(item: Conversation): void {
  doom({ ...doomed.peek(), [item.id]: Date.now() + UNDO_MS });
  if (openId.peek() === item.id) go(undefined);
  const close = toast(texts.peek().conversation.deleted(item.title), {
    ms: UNDO_MS,
    action: {
      label: texts.peek().conversation.undo,
      run: () => {
        close();
        clearTimeout(timers.get(item.id));
        spare(item.id);
        announce(texts.peek().conversation.notDeleted);
      },
    },
  });
  timers.set(
    item.id,
    setTimeout(() => void execute(item.id), UNDO_MS),
  );
}

async function execute(id: string, leaving = false): Promise<void> {
  timers.delete(id);
  try {
    await api.delete(id, leaving);
  } catch (error) {
    refused(error);
    if (!(error instanceof Refused) || error.status !== 404) {
      // It stays hidden and is deleted when the service is back; see `settle`.
      return;
    }
  }
  batch(() => {
    drop(id);
    spare(id);
  });
  tell({ type: "list" });
}

/** Deletes conversations whose time for an undo is over. */
export function settle(): void {
  doomed.value = read<Record<string, number>>(personal(DOOMED)) ?? {};
  for (const [id, until] of Object.entries(doomed.peek())) {
    if (until < Date.now() && !timers.has(id)) void execute(id);
  }
}

function spare(id: string): void {
  const { [id]: _, ...rest } = doomed.peek();
  doom(rest);
}

function doom(all: Record<string, number>): void {
  doomed.value = all;
  write(personal(DOOMED), Object.keys(all).length ? all : undefined);
}

onChange(DOOMED, () => {
  doomed.value = read<Record<string, number>>(personal(DOOMED)) ?? {};
});

addEventListener("pagehide", () => {
  for (const id of timers.keys()) void execute(id, true);
});
