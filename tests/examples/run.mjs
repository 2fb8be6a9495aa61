// Runs the TypeScript client: prints each text that it would show, a JSON line each.
const [module, url, token, conversationId, content] = process.argv.slice(2);
const { readAnswer } = await import(module);
const question = { path: "messages", body: { content }, key: crypto.randomUUID() };
const print = (line) => console.log(JSON.stringify(line));
let before = { text: "" };
for await (const answer of readAnswer({ url, token, conversationId }, question)) {
  // A reset and what follows it may arrive together.
  if (answer.again && !before.again) print({ text: "" });
  if (answer.text !== before.text && answer.text !== "") print({ text: answer.text });
  before = answer;
  if (answer.done) print({ status: answer.done.status });
}
