// Drawn on a grid of 24, in strokes.
const PATHS = {
  plus: "M12 5v14M5 12h14",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14ZM20 20l-4-4",
  menu: "M4 7h16M4 12h16M4 17h10",
  close: "M6 6l12 12M18 6L6 18",
  more: "M5.5 12h.01M12 12h.01M18.5 12h.01",
  star: "M12 4l2.4 5 5.6.7-4.1 3.8 1.1 5.5-5-2.8-5 2.8 1.1-5.5L4 9.7l5.6-.7L12 4Z",
  pen: "M4 20l1-4L16.5 4.5a2.1 2.1 0 0 1 3 3L8 19l-4 1ZM14.5 6.5l3 3",
  bin: "M5 7h14M10 7V4.5h4V7M7 7l1 12.5h8L17 7M10.5 11v5M13.5 11v5",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M8 8h8v8H8z",
  copy: "M9 9h10v11H9zM5 15V4h10",
  check: "M5 12.5l4.5 4.5L19 7.5",
  again: "M19 12a7 7 0 1 1-2.2-5.1M19 4v4h-4",
  down: "M12 5v14M6 13l6 6 6-6",
  chevron: "M7 10l5 5 5-5",
  left: "M14 7l-5 5 5 5",
  right: "M10 7l5 5-5 5",
  sliders: "M4 8h9M17 8h3M4 16h3M11 16h9M15 6v4M9 14v4",
  spark: "M12 4c.6 4.5 3 7 8 8-5 1-7.4 3.5-8 8-.6-4.5-3-7-8-8 5-1 7.4-3.5 8-8Z",
  keys: "M3.5 6.5h17v11h-17zM7 10h.01M10.5 10h.01M14 10h.01M17 10h.01M8 14h8",
  file: "M7 3.5h7l4 4v13H7zM14 3.5v4h4M12.5 11v6M10 14.5l2.5 2.5 2.5-2.5",
  tag: "M4 4h8l8 8-8 8-8-8zM8.5 8.5h.01",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6L7 7M17 17l1.4 1.4M5.6 18.4L7 17M17 7l1.4-1.4",
  moon: "M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10Z",
  screen: "M4 5h16v11H4zM9 20h6M12 16v4",
  exit: "M14 5H6v14h8M11 12h9M17 8.5l3.5 3.5-3.5 3.5",
  offline:
    "M4 4l16 16M8.5 14.5a5 5 0 0 1 7 0M5 11a10 10 0 0 1 4-2.4M19 11a10 10 0 0 0-6-2.9M12 18.5h.01",
  warning: "M12 4L3 19.5h18L12 4ZM12 10v4M12 17h.01",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, filled = false }: { name: IconName; filled?: boolean }) {
  return (
    <svg class={filled ? "icon filled" : "icon"} viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** The logo, a samosa; `lively` animates it. */
export function Mark({ lively = false }: { lively?: boolean }) {
  return (
    <svg class={lively ? "mark lively" : "mark"} viewBox="0 0 48 48" aria-hidden="true">
      <path
        class="crust"
        d="M21.7 6.6c1.5-2.5 4.9-2.5 6.4 0 5.4 9 11.6 19 15.6 28.8 1.3 3.2-.6 6.3-4 6.5-10.5.9-21 .9-31.4 0-3.5-.3-5.3-3.5-3.9-6.6C8.7 25.3 15.9 15.8 21.7 6.6Z"
      />
      <path
        class="side"
        d="M26.1 5c.8.3 1.5.8 2 1.6 5.4 9 11.6 19 15.6 28.8 1.3 3.2-.6 6.3-4 6.5l-4.3.3C36.1 29.5 31.8 15.8 26.1 5Z"
      />
      <circle class="dot" cx="14.2" cy="32.5" r="2.5" />
      <circle class="dot" cx="21.2" cy="32.5" r="2.5" />
      <circle class="dot" cx="28.2" cy="32.5" r="2.5" />
    </svg>
  );
}
