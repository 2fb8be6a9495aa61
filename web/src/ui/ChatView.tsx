import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Chat } from "../state/chat";
import { go } from "../state/router";
import { Composer } from "./Composer";
import { Icon } from "./Icon";
import { Messages } from "./Messages";
import { texts } from "../texts";

const NEAR_END_PX = 60;

export function ChatView({ chat }: { chat: Chat }) {
  const { messages: t, page, tryAgain } = texts.value;
  const problem = chat.problem.value;
  if (problem) {
    return (
      <div class="empty">
        <h1>{problem.gone ? t.notFound : t.notLoaded}</h1>
        <p>{problem.text}</p>
        <p>
          {problem.gone ? (
            <button type="button" class="primary" onClick={() => go(undefined)}>
              {page.newConversation}
            </button>
          ) : (
            <button type="button" class="primary" onClick={() => void chat.open()}>
              {tryAgain}
            </button>
          )}
        </p>
      </div>
    );
  }
  return (
    <>
      <Scroll chat={chat} />
      <Composer chat={chat} />
    </>
  );
}

/** Follows the end while the answer grows, unless the reader has scrolled away. */
function Scroll({ chat }: { chat: Chat }) {
  const t = texts.value.messages;
  const box = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const lastTop = useRef(0);
  const [away, setAway] = useState(false);

  const toEnd = (smooth = false) => {
    following.current = true;
    setAway(false);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    box.current!.scrollTo({
      top: box.current!.scrollHeight,
      behavior: smooth && !still ? "smooth" : "instant",
    });
  };

  useLayoutEffect(() => {
    const watcher = new ResizeObserver(() => {
      if (following.current) toEnd();
      if (box.current!.scrollHeight <= box.current!.clientHeight) void earlier();
    });
    watcher.observe(content.current!);
    watcher.observe(box.current!);
    return () => watcher.disconnect();
  }, []);

  const onScroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = box.current!;
    const atEnd = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    // What grows does not count as scrolling away; going up does.
    if (atEnd) following.current = true;
    else if (scrollTop < lastTop.current) following.current = false;
    lastTop.current = scrollTop;
    setAway(!atEnd && !following.current);
    if (scrollTop < 400) void earlier();
  };

  const earlier = async () => {
    if (chat.nextBefore.peek() === null) return;
    const fromEnd = box.current!.scrollHeight - box.current!.scrollTop;
    await chat.loadEarlier();
    requestAnimationFrame(() => {
      if (box.current && !following.current)
        box.current.scrollTop = box.current.scrollHeight - fromEnd;
    });
  };

  const pending = chat.pending.value;
  useEffect(() => {
    if (pending) toEnd();
  }, [pending?.key]);

  return (
    <div class="scroll-frame">
      <div
        class="scroll"
        ref={box}
        onScroll={onScroll}
        tabIndex={0}
        role="region"
        aria-label={t.region}
      >
        <div class="messages" ref={content}>
          {chat.nextBefore.value && <div class="spinner" />}
          {!chat.loaded.value && (
            <div class="skeleton wide" aria-hidden="true">
              <i />
              <i />
              <i />
            </div>
          )}
          <Messages chat={chat} />
        </div>
      </div>
      {away && (
        <button type="button" class="to-end" onClick={() => toEnd(true)}>
          <Icon name="down" /> {chat.live.value ? t.follow : t.toEnd}
        </button>
      )}
    </div>
  );
}
