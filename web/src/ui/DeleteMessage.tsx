import { useState } from "preact/hooks";
import { Dialog } from "./Dialog";
import { deleting } from "./shell";

/** Asks before a message is deleted. */
export default function DeleteMessage() {
  const [busy, setBusy] = useState(false);
  const { chat, message } = deleting.value ?? {};
  if (!chat || !message) return null;
  const close = () => (deleting.value = undefined);
  const run = async () => {
    setBusy(true);
    await chat.delete(message);
    close();
  };
  return (
    <Dialog title="Delete this message?" onClose={close}>
      <p>
        The message and everything that follows it are deleted.
        {message.versions > 1 ? " Another version of it is shown instead." : ""}
      </p>
      <p class="actions">
        <button type="button" class="small" onClick={close}>
          Cancel
        </button>
        <button type="button" class="small danger" disabled={busy} onClick={() => void run()}>
          Delete
        </button>
      </p>
    </Dialog>
  );
}
