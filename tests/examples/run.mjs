// Runs the TypeScript example: prints each text that it would show, a JSON line each.
const [module, url, token, conversationId, content] = process.argv.slice(2);
const { answer } = await import(module);
const texts = answer(url, token, conversationId, content);
for (;;) {
  const { done, value } = await texts.next();
  console.log(JSON.stringify(done ? { status: value ?? null } : { text: value }));
  if (done) break;
}
