import { useState } from "preact/hooks";
import { announce, toast } from "../state/say";
import { Icon } from "./Icon";

/** Puts a text on the clipboard and says so. */
export function CopyButton({ text, label }: { text: string; label: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without https, browsers keep the clipboard to themselves.
      toast("The browser does not let the page copy.");
      return;
    }
    announce("Copied");
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
