import { useEffect } from "preact/hooks";
import { chat } from "../state/chats";
import * as conversations from "../state/conversations";
import { go, openId, unknownAddress } from "../state/router";
import { announcement, toasts } from "../state/say";
import { lost, tryNow } from "../state/service";
import { expired, session, signOut } from "../state/session";
import { texts } from "../texts";
import { ChatView } from "./ChatView";
import { Dialog } from "./Dialog";
import { Home } from "./Home";
import { Icon } from "./Icon";
import { isComposing, isInTextField, pressed, type Shortcut } from "./keys";
import { Lazy } from "./Lazy";
import { Countdown } from "./Messages";
import { ModelPicker } from "./ModelPicker";
import { Palette } from "./Palette";
import { Sidebar } from "./Sidebar";
import {
  conversationSettings,
  deleting,
  drawer,
  focusComposer,
  palette,
  settings,
  shortcuts,
  somethingIsOpen,
} from "./shell";
import { SignInForm, SignInPage } from "./SignIn";

export function App() {
  return (
    <>
      {session.value ? <Signed /> : <SignInPage />}
      <div class="toasts" aria-live="polite">
        {toasts.value.map(({ id, text, action }) => (
          <div key={id} class="toast">
            <span dir="auto">{text}</span>
            {action && (
              <button type="button" onClick={action.run}>
                {action.label}
              </button>
            )}
          </div>
        ))}
      </div>
      <div class="unseen" role="status" aria-live="polite">
        {announcement.value}
      </div>
    </>
  );
}

function Signed() {
  useKeys();
  const t = texts.value.page;
  const { signIn } = texts.value;
  const id = openId.value;
  const open = chat.value;
  const title = open && (conversations.conversation(open.id)?.title ?? t.untitled);
  const answering = open?.live.value !== undefined;
  useEffect(() => {
    document.title = `${answering ? "… " : ""}${title ? `${title} · ` : ""}samosaChaat`;
  }, [title, answering]);
  useEffect(() => focusComposer(), [id]);
  const narrowAndOpen = useDrawer();

  return (
    <div class={narrowAndOpen ? "frame drawer-open" : "frame"}>
      <a
        class="skip"
        href="#composer"
        onClick={(event) => (event.preventDefault(), focusComposer(true))}
      >
        {t.skip}
      </a>
      <aside class="sidebar" id="sidebar" aria-label={t.sidebar}>
        <Sidebar />
      </aside>
      <div class="backdrop" onClick={() => (drawer.value = false)} />
      <main inert={narrowAndOpen}>
        <header class="top">
          <button
            type="button"
            class="tool only-narrow"
            aria-label={t.conversations}
            aria-expanded={narrowAndOpen}
            aria-controls="sidebar"
            onClick={() => (drawer.value = true)}
          >
            <Icon name="menu" />
          </button>
          {title ? (
            <h1 title={title} dir="auto">
              {title}
            </h1>
          ) : (
            <span class="grow" />
          )}
          {open && <SettingsButton id={open.id} />}
          <ModelPicker />
        </header>
        <Banner />
        {open ? (
          <ChatView key={open.id} chat={open} />
        ) : unknownAddress.value ? (
          <NotFound />
        ) : (
          id === undefined && <Home />
        )}
      </main>
      {palette.value && <Palette />}
      {settings.value && <Lazy load={() => import("./Settings")} isOpen={settings} />}
      {shortcuts.value && <Lazy load={() => import("./Shortcuts")} isOpen={shortcuts} />}
      {conversationSettings.value && (
        <Lazy load={() => import("./ConversationSettings")} isOpen={conversationSettings} />
      )}
      {deleting.value && <Lazy load={() => import("./DeleteMessage")} isOpen={deleting} />}
      {expired.value && (
        <Dialog title={signIn.again} class="again">
          <p>{signIn.expired}</p>
          <SignInForm />
          <button type="button" class="link" onClick={signOut}>
            {signIn.signOut}
          </button>
        </Dialog>
      )}
    </div>
  );
}

/** Opens the settings of this conversation, and shows whether any are set. */
function SettingsButton({ id }: { id: string }) {
  const t = texts.value.tags;
  const { instructions, options, tags = [] } = conversations.conversation(id) ?? {};
  const isSet = Boolean(instructions ?? options) || tags.length > 0;
  const { settings: plain, settingsChanged } = texts.value.page;
  const label = isSet ? settingsChanged : plain;
  return (
    <>
      {tags.length > 0 && (
        <span class="tags" dir="auto">
          {tags.map((tag) => (
            <button
              key={tag}
              type="button"
              title={t.showAll(tag)}
              onClick={() => conversations.listOnly(tag)}
            >
              {tag}
            </button>
          ))}
        </span>
      )}
      <button
        type="button"
        class={isSet ? "tool set" : "tool"}
        aria-label={label}
        title={label}
        onClick={() => (conversationSettings.value = true)}
      >
        <Icon name="sliders" />
      </button>
    </>
  );
}

function NotFound() {
  const t = texts.value.page;
  return (
    <div class="empty">
      <h1>{t.notFound}</h1>
      <p>{t.noPage}</p>
      <p>
        <button type="button" class="primary" onClick={() => go(undefined)}>
          {t.newConversation}
        </button>
      </p>
    </div>
  );
}

/** Shows that there is no connection, and when it is tried again. */
function Banner() {
  const until = lost.value;
  if (until === undefined) return null;
  const { page, service, tryNow: label } = texts.value;
  const [before, after] = page.tryingAgain;
  return (
    <div class="banner" role="alert">
      <Icon name="offline" />
      <p>
        {navigator.onLine ? service.unreachable : page.offline} {page.nothingLost}{" "}
        <span aria-hidden="true">
          {before}
          <Countdown until={until} />
          {after}
        </span>
      </p>
      <button type="button" class="link" onClick={tryNow}>
        {label}
      </button>
    </div>
  );
}

/** Whether the list lies over the page, on a narrow screen; the focus goes with it. */
function useDrawer(): boolean {
  const open = drawer.value;
  useEffect(() => {
    const wide = matchMedia("(min-width: 861px)");
    const close = () => (drawer.value = false);
    wide.addEventListener("change", close);
    return () => wide.removeEventListener("change", close);
  }, []);
  useEffect(() => {
    if (!open) return;
    document.querySelector<HTMLElement>(".sidebar .only-narrow")?.focus();
    return () => {
      const within = document.activeElement?.closest(".sidebar");
      if (within) document.querySelector<HTMLElement>(".top .only-narrow")?.focus();
    };
  }, [open]);
  return open;
}

/** Handles a key anywhere on the page. Returns whether it did anything. */
const GLOBAL: Partial<Record<Shortcut, (event: KeyboardEvent) => boolean>> = {
  find: () => {
    palette.value = !palette.peek();
    return true;
  },
  newConversation: () => {
    go(undefined);
    drawer.value = false;
    focusComposer();
    return true;
  },
  help: (event) => !isInTextField(event) && toggleHelp(),
  helpAnywhere: () => toggleHelp(),
  undo: (event) => {
    const undo = isInTextField(event)
      ? undefined
      : toasts.peek().findLast(({ action }) => action)?.action;
    undo?.run();
    return undo !== undefined;
  },
  stop: (event) => {
    const open = chat.peek();
    if (somethingIsOpen() || isComposing(event) || !open?.answering.peek()) return false;
    void open.stop();
    return true;
  },
};

function toggleHelp(): boolean {
  if (somethingIsOpen() && !shortcuts.peek()) return false;
  shortcuts.value = !shortcuts.peek();
  return true;
}

function closeDrawer(event: KeyboardEvent): boolean {
  const isAbove = document.querySelector("dialog[open], :popover-open") !== null;
  if (event.key !== "Escape" || !drawer.peek() || isAbove) return false;
  drawer.value = false;
  return true;
}

function useKeys(): void {
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent) => {
      const names = Object.keys(GLOBAL) as Shortcut[];
      const name = names.find((one) => pressed(event, one));
      if (closeDrawer(event) || (name && GLOBAL[name]!(event))) event.preventDefault();
    };
    addEventListener("keydown", onKeyDown);
    return () => removeEventListener("keydown", onKeyDown);
  }, []);
}
