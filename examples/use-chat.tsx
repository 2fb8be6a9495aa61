// A chat page with the AI SDK (versions 5 to 7). It shows the conversation and joins a running
// answer after a reload; the server keeps the history, under an id of the page's choice.
"use client";
import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport, type UIMessage } from "ai";
import { useEffect, useState, type FormEvent } from "react";

type Props = { id: string; url: string; token: string };

export default function Page(props: Props) {
  const [messages, setMessages] = useState<UIMessage[]>();
  useEffect(() => {
    const headers = { authorization: `Bearer ${props.token}` };
    fetch(`${props.url}/api/chat/${encodeURIComponent(props.id)}/messages`, { headers })
      .then((response) => (response.ok ? response.json() : [])) // 404: no message yet
      .then(setMessages);
  }, [props.id, props.url, props.token]);
  return messages ? <Chat {...props} messages={messages} /> : <p>Loading…</p>;
}

function Chat({ id, url, token, messages }: Props & { messages: UIMessage[] }) {
  const headers = { authorization: `Bearer ${token}` };
  const transport = new DefaultChatTransport({ api: `${url}/api/chat`, headers });
  const chat = useChat({ id, messages, transport, resume: true });
  const send = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    chat.sendMessage({ text: String(new FormData(event.currentTarget).get("text")) });
    event.currentTarget.reset();
  };
  // `chat.stop()` only stops reading; this stops the answer, in every tab.
  const stop = () => fetch(`${url}/api/chat/${encodeURIComponent(id)}/stop`, { method: "POST", headers });
  return (
    <form onSubmit={send}>
      {chat.messages.map(({ id, role, parts }) => (
        <p key={id} className={role}>{parts.map((part) => (part.type === "text" ? part.text : ""))}</p>
      ))}
      {chat.error && <p role="alert">{chat.error.message}</p>}
      <input name="text" /> <button>Send</button> <button type="button" onClick={stop}>Stop</button>
    </form>
  );
}
