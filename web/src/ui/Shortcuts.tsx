import { texts } from "../texts";
import { Dialog } from "./Dialog";
import { keysOf, type Shortcut, SHORTCUTS } from "./keys";
import { shortcuts } from "./shell";

/** The list of keyboard shortcuts. */
export default function Shortcuts() {
  const { title, of } = texts.value.shortcuts;
  return (
    <Dialog title={title} onClose={() => (shortcuts.value = false)}>
      <dl class="keys">
        {(Object.keys(SHORTCUTS) as Shortcut[]).map((shortcut) => (
          <div key={shortcut}>
            <dt>
              {keysOf(shortcut).map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{of[shortcut]}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
