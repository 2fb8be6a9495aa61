import type { ComponentChildren } from "preact";
import { useId, useLayoutEffect, useRef } from "preact/hooks";
import { Icon } from "./Icon";
import { texts } from "../texts";

interface Props {
  title: string;
  /** Left out where the dialog must be answered. */
  onClose?: () => void;
  plain?: boolean;
  class?: string;
  children: ComponentChildren;
}

/** A modal dialog; the browser keeps the focus inside, and gives it back at the end. */
export function Dialog({ title, onClose, plain = false, class: name = "", children }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const titleId = useId();
  // Before the next key arrives: keys typed after Ctrl+K belong to the dialog.
  useLayoutEffect(() => {
    const shown = dialog.current!;
    const before = document.activeElement;
    shown.showModal();
    return () => {
      shown.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      class={name}
      aria-labelledby={titleId}
      onCancel={(event) => {
        event.preventDefault();
        onClose?.();
      }}
      onClose={() => {
        // A browser lets a second Esc through; what must be answered stays.
        if (onClose) onClose();
        else if (dialog.current?.isConnected) dialog.current.showModal();
      }}
      onPointerDown={(event) => {
        if (event.target === dialog.current) onClose?.();
      }}
    >
      <div class="sheet">
        <header class={plain ? "hidden" : ""}>
          <h2 id={titleId}>{title}</h2>
          {onClose && (
            <button type="button" class="tool" aria-label={texts.value.close} onClick={onClose}>
              <Icon name="close" />
            </button>
          )}
        </header>
        {children}
      </div>
    </dialog>
  );
}
