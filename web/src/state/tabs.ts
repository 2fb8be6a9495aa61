// What the tabs of one browser tell each other.

type News =
  /** Something happened in this conversation: a message, an answer, its end. */
  | { type: "conversation"; id: string }
  /** The list is not what it was. */
  | { type: "list" };

const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("samosachaat") : undefined;

export function tell(news: News): void {
  channel?.postMessage(news);
}

export function onNews(callback: (news: News) => void): void {
  channel?.addEventListener("message", ({ data }: MessageEvent<News>) => callback(data));
}
