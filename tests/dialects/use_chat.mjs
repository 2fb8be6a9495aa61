// Runs steps with one release's `Chat`, which is `useChat` without React. Prints a JSON line for
// each step that has ended, and one for each text that a page would show.
const [release, url, token, id, steps] = process.argv.slice(2);
const { Chat } = await import(`ai-react${release}`);
const { DefaultChatTransport } = await import(`ai${Number(release) + 3}`);

const headers = { authorization: `Bearer ${token}` };
const print = (line) => console.log(JSON.stringify(line));
const textOf = (message, type = "text") =>
  message.parts
    .filter((part) => part.type === type)
    .map((part) => part.text)
    .join("");

const loaded = await fetch(`${url}/api/chat/${encodeURIComponent(id)}/messages`, { headers });
const chat = new Chat({
  id,
  messages: loaded.ok ? await loaded.json() : [],
  transport: new DefaultChatTransport({ api: `${url}/api/chat`, headers }),
  onError: () => {},
});
let shown = "";
chat["~registerMessagesCallback"](() => {
  const last = chat.messages.at(-1);
  const text = last?.role === "assistant" ? textOf(last) : "";
  if (text !== shown) print({ shows: (shown = text) });
});

const actions = {
  send: (text) => chat.sendMessage({ text }),
  edit: ([at, text]) => chat.sendMessage({ text, messageId: chat.messages[at].id }),
  again: () => chat.sendMessage(),
  regenerate: (at) => chat.regenerate(at === null ? {} : { messageId: chat.messages[at].id }),
  resume: () => chat.resumeStream(),
};
for (const [[action, argument]] of JSON.parse(steps).map(Object.entries)) {
  await actions[action](argument);
  print({
    status: chat.status,
    error: chat.error?.message ?? null,
    messages: chat.messages.map((message) => ({
      id: message.id,
      role: message.role,
      text: textOf(message),
      reasoning: textOf(message, "reasoning"),
      metadata: message.metadata ?? null,
    })),
  });
}
process.exit(0);
