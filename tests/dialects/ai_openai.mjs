// Asks with one release's `@ai-sdk/openai`, the provider of the AI SDK; prints what it had as JSON.
const [release, url, apiKey] = process.argv.slice(2);
const { createOpenAI } = await import(`ai-openai${release}`);
const { generateText, streamText } = await import(`ai${Number(release) + 3}`);

const model = createOpenAI({ baseURL: `${url}/v1`, apiKey }).responses("m");
const ask = (options) => generateText({ model, maxRetries: 0, ...options });
const user = (content) => ({ role: "user", content });

const first = await ask({ system: "Be brief.", prompt: "One" });
const history = await ask({ messages: [user("One"), ...first.response.messages, user("Two")] });
const chained = await ask({
  prompt: "Three",
  providerOptions: { openai: { previousResponseId: first.providerMetadata.openai.responseId } },
});
const settings = await ask({
  prompt: "Four",
  temperature: 0.5,
  topP: 0.9,
  maxOutputTokens: 64,
  providerOptions: {
    openai: {
      instructions: "Be kind.",
      metadata: { a: "b" },
      parallelToolCalls: false,
      promptCacheKey: "k",
      safetyIdentifier: "s",
      serviceTier: "auto",
      textVerbosity: "low",
      truncation: "auto",
      user: "u",
    },
  },
});

const streamed = streamText({ model, prompt: "Five", maxRetries: 0 });
const parts = [];
for await (const part of streamed.fullStream) if (part.type !== "raw") parts.push(part);
const followed = await ask({
  messages: [user("Five"), ...(await streamed.response).messages, user("Six")],
});
const quiet = { model, maxRetries: 0, onError: () => {} };
const seen = async (result) => {
  const types = [];
  for await (const part of result.fullStream) types.push(part.type);
  return types;
};
const cut = streamText({ ...quiet, prompt: "Seven" });
const ended = { cut: (await seen(cut)).includes("error"), text: await cut.text };
ended.failed = (await seen(streamText({ ...quiet, prompt: "Eight" }))).includes("error");

const texts = parts.filter((part) => part.type === "text-delta").map((part) => part.text);
const thoughts = parts.filter((part) => part.type === "reasoning-delta").map((part) => part.text);
console.log(
  JSON.stringify({
    said: [first, history, chained, settings, followed].map((result) => result.text),
    deltas: texts.filter((text) => text),
    thoughts: thoughts.filter((text) => text),
    finish: await streamed.finishReason,
    usage: (await streamed.usage).outputTokens,
    ended,
  }),
);
