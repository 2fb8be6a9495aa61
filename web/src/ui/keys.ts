import { type Texts, texts } from "../texts";

/**
 * The keys of everything that can be done with a key. The page's handlers ask `pressed`, and the help
 * dialog shows the whole table, so that the two cannot differ.
 */
export const SHORTCUTS = {
  find: "Ctrl+K",
  newConversation: "Ctrl+Shift+O",
  help: "?",
  helpAnywhere: "Ctrl+/",
  undo: "Ctrl+Z",
  stop: "Escape",
  send: "Enter",
  sendOnTouch: "Ctrl+Enter",
  newLine: "Shift+Enter",
  previous: "ArrowUp",
  next: "ArrowDown",
  rename: "F2",
  remove: "Delete",
} as const satisfies Record<keyof Texts["shortcuts"]["of"], string>;

export type Shortcut = keyof typeof SHORTCUTS;

/** Whether the event is that of this shortcut. The command key counts as Ctrl. */
export function pressed(event: KeyboardEvent, shortcut: Shortcut): boolean {
  const keys: string[] = SHORTCUTS[shortcut].split("+");
  const key = keys.pop()!;
  if ((event.ctrlKey || event.metaKey) !== keys.includes("Ctrl")) return false;
  // Which of the other signs need Shift depends on the keyboard's layout.
  const isSign = key.length === 1 && !/[a-z]/i.test(key);
  if (!isSign && event.shiftKey !== keys.includes("Shift")) return false;
  return event.key.toLowerCase() === key.toLowerCase();
}

/** The keys as they are written on the keyboard. */
export function keysOf(shortcut: Shortcut): string[] {
  const names: Record<string, string> = texts.value.shortcuts.keys;
  return SHORTCUTS[shortcut].split("+").map((key) => names[key] ?? key);
}

/** Whether the event's target is a place to type, where a sign is only a sign. */
export function isInTextField({ target }: Event): boolean {
  return (
    target instanceof HTMLElement &&
    target.matches("textarea, select, input:not([type=checkbox], [type=radio], [type=range])")
  );
}

/**
 * Whether a key belongs to an input method that is composing. Safari ends the composition before
 * the keydown of its Enter, and marks that key by its code only.
 */
export function isComposing(event: KeyboardEvent): boolean {
  return event.isComposing || event.keyCode === 229;
}
