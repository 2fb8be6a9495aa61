import type { ComponentChildren } from "preact";
import { useId, useRef, useState } from "preact/hooks";

export interface Item {
  label: ComponentChildren;
  run: () => void;
  /** Of a choice: whether it is the chosen one. */
  checked?: boolean;
  disabled?: boolean;
  danger?: boolean;
}

interface Props {
  label: string;
  button: ComponentChildren;
  class?: string;
  items: (Item | "line")[];
  above?: boolean;
  note?: ComponentChildren;
  onOpen?: () => void;
}

/** A button with a menu (WAI-ARIA menu button pattern), shown above everything else. */
export function Menu({
  label,
  button,
  class: name = "tool",
  items,
  above = false,
  note,
  onOpen,
}: Props) {
  const id = useId();
  const opener = useRef<HTMLButtonElement>(null);
  const menu = useRef<HTMLDivElement>(null);
  const [open, setOpen] = useState(false);

  const choices = () =>
    [...menu.current!.querySelectorAll<HTMLButtonElement>("[role^=menuitem]")].filter(
      (item) => !item.disabled,
    );

  const place = () => {
    const at = opener.current!.getBoundingClientRect();
    const box = menu.current!;
    const left = Math.min(
      Math.max(8, at.right - box.offsetWidth),
      innerWidth - box.offsetWidth - 8,
    );
    const fitsBelow = at.bottom + box.offsetHeight + 8 < innerHeight;
    const top = above || !fitsBelow ? Math.max(8, at.top - box.offsetHeight - 6) : at.bottom + 6;
    box.style.left = `${left}px`;
    box.style.top = `${top}px`;
    box.classList.add("placed");
  };

  // Its content is there while it is open only: a list may hold hundreds of menus.
  const onBeforeToggle = (event: ToggleEvent) => {
    if (event.newState !== "open") return;
    onOpen?.();
    setOpen(true);
  };

  const onToggle = (event: ToggleEvent) => {
    if (event.newState !== "open") {
      menu.current?.classList.remove("placed");
      return setOpen(false);
    }
    place();
    const chosen = choices().find((item) => item.getAttribute("aria-checked") === "true");
    (chosen ?? choices()[0])?.focus();
  };

  const onKeyDown = (event: KeyboardEvent) => {
    const all = choices();
    const at = all.indexOf(document.activeElement as HTMLButtonElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
    if (event.key === "Tab") menu.current!.hidePopover();
    if (to === undefined || all.length === 0) return;
    event.preventDefault();
    all.at(to % all.length)!.focus();
  };

  return (
    <>
      <button
        ref={opener}
        type="button"
        class={name}
        aria-label={label}
        title={label}
        aria-haspopup="menu"
        aria-expanded={open}
        popovertarget={id}
      >
        {button}
      </button>
      <div
        ref={menu}
        id={id}
        class="menu"
        popover="auto"
        onBeforeToggle={onBeforeToggle}
        onToggle={onToggle}
        onKeyDown={onKeyDown}
      >
        {open && (
          <div role="menu" aria-label={label}>
            {items.map((item, index) =>
              item === "line" ? (
                <hr key={index} />
              ) : (
                <button
                  key={index}
                  type="button"
                  role={item.checked === undefined ? "menuitem" : "menuitemradio"}
                  {...(item.checked !== undefined && { "aria-checked": item.checked })}
                  class={item.danger ? "danger" : ""}
                  disabled={item.disabled ?? false}
                  tabIndex={-1}
                  onClick={() => {
                    menu.current!.hidePopover();
                    opener.current?.focus();
                    item.run();
                  }}
                >
                  {item.label}
                </button>
              ),
            )}
          </div>
        )}
        {open && note && <p class="note">{note}</p>}
      </div>
    </>
  );
}
