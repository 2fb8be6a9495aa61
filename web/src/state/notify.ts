// An optional notification when an answer ends while no tab of the page is visible.

import { texts } from "../texts";
import { conversation } from "./conversations";
import { wasSeen } from "./marks";
import { notifications } from "./preferences";
import { addressOf, go } from "./router";
import { toast } from "./say";
import type { Change } from "./tabs";

/** A shared lock, held while any tab is visible. */
const VISIBLE = "samosachaat.visible";

type AnswerChange = Extract<Change, { answer: unknown }>["answer"];

export const canNotify = "Notification" in globalThis;

/** Switches notifications on, if the browser allows them, or off. */
export async function setNotifications(wanted: boolean): Promise<void> {
  notifications.value = wanted;
  const allowed = wanted && (await Notification.requestPermission()) === "granted";
  notifications.value = allowed;
  if (wanted && !allowed) toast(texts.peek().notifications.refused);
}

/** Starts informing the other tabs whether this one is visible. */
export function showPresence(): void {
  let leave: (() => void) | undefined;
  const look = () => {
    if (document.hidden) {
      leave?.();
      leave = undefined;
    } else if (!leave) {
      const away = new Promise<void>((resolve) => (leave = resolve));
      void locks?.request(VISIBLE, { mode: "shared" }, () => away);
    }
  };
  look();
  document.addEventListener("visibilitychange", look);
  // A notification of the service worker was pressed.
  navigator.serviceWorker?.addEventListener("message", ({ data }: MessageEvent) => {
    const { address } = data as { address: string };
    go(address.replace("/c/", ""));
  });
}

/** Shows that an answer has ended, if notifications are on and no tab is visible. */
export async function notifyOf(answer: AnswerChange): Promise<void> {
  const { conversation_id: id, message_id, status } = answer;
  if (!canNotify || !notifications.peek() || status === "generating" || !document.hidden) return;
  if (wasSeen(answer) || Notification.permission !== "granted") return;
  if (await isSomeTabVisible()) return;
  const { ended, failed } = texts.peek().notifications;
  const title = status === "complete" ? ended : failed;
  const options = { body: conversation(id)?.title ?? texts.peek().page.untitled, tag: message_id };
  try {
    const shown = new Notification(title, options);
    shown.onclick = () => {
      shown.close();
      focus();
      go(id);
    };
  } catch {
    // A phone's browser shows those of a service worker only.
    const worker = await navigator.serviceWorker?.getRegistration();
    await worker?.showNotification(title, { ...options, data: addressOf(id) });
  }
}

const locks = (navigator as { locks?: LockManager }).locks;

async function isSomeTabVisible(): Promise<boolean> {
  const held = (await locks?.query())?.held ?? [];
  return held.some(({ name }) => name === VISIBLE);
}
