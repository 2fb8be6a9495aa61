// Shows examples/use-chat.tsx in a document without a browser, with the newest release of the AI
// SDK: says each text, and each shown state of the page as a JSON line.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Window } from "happy-dom";

const [source, compilerFrom, release, url, token, id, ...texts] = process.argv.slice(2);
const ts = createRequire(compilerFrom)("typescript");
const { outputText } = ts.transpileModule(readFileSync(source, "utf8"), {
  compilerOptions: { jsx: ts.JsxEmit.ReactJSX, module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
});
const compiled = new URL(`node_modules/.page-${process.pid}.mjs`, import.meta.url);
writeFileSync(
  compiled,
  outputText.replace('"@ai-sdk/react"', `"ai-react${release}"`).replace('"ai"', `"ai${Number(release) + 3}"`),
);

const window = new Window({ url: "http://page.example/" });
for (const name of ["document", "FormData", "navigator"])
  Object.defineProperty(globalThis, name, { value: window[name], configurable: true });
globalThis.window = window;
const { createElement } = await import("react");
const { createRoot } = await import("react-dom/client");
const { default: Page } = await import(compiled);
const root = window.document.createElement("div");
window.document.body.append(root);
createRoot(root).render(createElement(Page, { id, url, token }));

const shown = () => [...root.querySelectorAll("p")].map((p) => [p.className, p.textContent]);
const until = async (holds) => {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 20));
};
await until(() => root.querySelector("form"));
let count = shown().length;
for (const text of texts) {
  root.querySelector("input").value = text;
  const submit = new window.Event("submit", { bubbles: true, cancelable: true });
  root.querySelector("form").dispatchEvent(submit);
  count += 2;
  await until(() => shown().length === count && shown().at(-1)[1].endsWith("."));
}
console.log(JSON.stringify(shown()));
process.exit(0);
