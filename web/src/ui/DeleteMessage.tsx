import { useState } from "preact/hooks";
import { Dialog } from "./Dialog";
import { deleting } from "./shell";
import { texts } from "../texts";

/** Asks before a message is deleted. */
export default function DeleteMessage() {
  const t = texts.value.messages;
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
    <Dialog title={t.removeTitle} onClose={close}>
      <p>
        {t.removeHint}
        {message.versions > 1 ? ` ${t.removeVersion}` : ""}
      </p>
      <p class="actions">
        <button type="button" class="small" onClick={close}>
          {texts.value.cancel}
        </button>
        <button type="button" class="small danger" disabled={busy} onClick={() => void run()}>
          {texts.value.delete}
        </button>
      </p>
    </Dialog>
  );
}
