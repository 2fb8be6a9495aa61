// Drawn on a grid of 24, in strokes.
const PATHS = {
  plus: "M12 5v14M5 12h14",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14ZM20 20l-4-4",
  menu: "M4 7h16M4 12h16M4 17h10",
  close: "M6 6l12 12M18 6L6 18",
  more: "M5.5 12h.01M12 12h.01M18.5 12h.01",
  star: "M12 4l2.4 5 5.6.7-4.1 3.8 1.1 5.5-5-2.8-5 2.8 1.1-5.5L4 9.700l5.600-.7L12 4Z",
  pen: "M4 20l1-4L16.500 4.500a2.100 2.100 0 0 1 3 3L8 19l-4 1ZM14.500 6.500l3 3",
  bin: "M5 7h14M10 7V4.500h4V7M7 7l1 12.500h8L17 7M10.500 11v5M13.500 11v5",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M8 8h8v8H8z",
  copy: "M9 9h10v11H9zM5 15V4h10",
  check: "M5 12.500l4.500 4.500L19 7.500",
  again: "M19 12a7 7 0 1 1-2.200-5.100M19 4v4h-4",
  down: "M12 5v14M6 13l6 6 6-6",
  chevron: "M7 10l5 5 5-5",
  sliders: "M4 8h9M17 8h3M4 16h3M11 16h9M15 6v4M9 14v4",
  spark: "M12 4c.6 4.500 3 7 8 8-5 1-7.400 3.500-8 8-.6-4.500-3-7-8-8 5-1 7.400-3.500 8-8Z",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM12 3v2M12 19v2M3 12h2M19 12h2M5.600 5.600L7 7M17 17l1.400 1.400M5.600 18.400L7 17M17 7l1.400-1.400",
  moon: "M19.500 14.500A8 8 0 0 1 9.500 4.500a8 8 0 1 0 10 10Z",
  screen: "M4 5h16v11H4zM9 20h6M12 16v4",
  exit: "M14 5H6v14h8M11 12h9M17 8.500l3.500 3.500-3.500 3.500",
  offline: "M4 4l16 16M8.500 14.500a5 5 0 0 1 7 0M5 11a10 10 0 0 1 4-2.400M19 11a10 10 0 0 0-6-2.900M12 18.500h.01",
  warning: "M12 4L3 19.500h18L12 4ZM12 10v4M12 17h.01",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, filled = false }: { name: IconName; filled?: boolean }) {
  return (
    <svg class={filled ? "icon filled" : "icon"} viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** A samosa that is about to say something. */
export function Mark({ lively = false }: { lively?: boolean }) {
  return (
    <svg class={lively ? "mark lively" : "mark"} viewBox="0 0 48 48" aria-hidden="true">
      <path
        class="crust"
        d="M20.600 6.200c1.500-2.600 5.300-2.600 6.800 0l16.800 28.600c1.600 2.700-.3 6.100-3.400 6.200-11.200.400-22.400.400-33.600 0-3.100-.1-5-3.500-3.400-6.200L20.600 6.200Z"
      />
      <path class="fold" d="M9.500 36.300c9.700.4 19.300.4 29 0" />
      <circle class="dot" cx="17" cy="28" r="2.600" />
      <circle class="dot" cx="24" cy="28" r="2.600" />
      <circle class="dot" cx="31" cy="28" r="2.600" />
    </svg>
  );
}
