import { useState } from "preact/hooks";
import { announce } from "../state/say";
import { Icon } from "./Icon";

/** Puts a text on the clipboard and says so. */
export function CopyButton({ text, label }: { text: string; label: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      announce("Could not be copied");
      return;
    }
    announce("Copied");
    setCopied(true);
    setTimeout(() => setCopied(false), 1_600);
  };
  return (
    <button type="button" class={copied ? "tool copied" : "tool"} title={label} aria-label={label} onClick={copy}>
      <Icon name={copied ? "check" : "copy"} />
    </button>
  );
}
