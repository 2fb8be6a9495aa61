import { useState } from "preact/hooks";
import { announce, toast } from "../state/say";
import { Icon } from "./Icon";
import { texts } from "../texts";

/** Copies a text to the clipboard, and announces it. */
export function CopyButton({ text, label }: { text: string; label: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    if (!(await putOnClipboard(text))) {
      toast(texts.peek().notCopied);
      return;
    }
    announce(texts.peek().copied);
    setCopied(true);
    setTimeout(() => setCopied(false), 1_600);
  };
  return (
    <button
      type="button"
      class={copied ? "tool copied" : "tool"}
      title={label}
      aria-label={label}
      onClick={copy}
    >
      <Icon name={copied ? "check" : "copy"} />
    </button>
  );
}

async function putOnClipboard(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text);
  }
}

/** Copies without the clipboard API, which browsers refuse without https or a permission. */
function copySelected(text: string): boolean {
  const before = document.activeElement;
  const field = document.createElement("textarea");
  field.className = "unseen";
  field.readOnly = true;
  field.value = text;
  // A modal dialog keeps the focus to itself.
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  if (before instanceof HTMLElement) before.focus();
  return copied;
}
