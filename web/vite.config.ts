import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { type Plugin } from "vite";
import { defineConfig } from "vitest/config";

/** Every browser that can run the page reads woff2: leave KaTeX's other font files out. */
const onlyWoff2: Plugin = {
  name: "only-woff2",
  enforce: "pre",
  transform: {
    filter: { id: /katex\.min\.css$/ },
    handler: (css) => css.replace(/,url\([^)]*\.(woff|ttf)\) format\("\w+"\)/g, ""),
  },
};

/** Writes sw.js, which keeps the page's files: those of this build. */
const serviceWorker: Plugin = {
  name: "service-worker",
  apply: "build",
  generateBundle: {
    order: "post",
    handler(_, bundle) {
      const entry = Object.values(bundle).find((file) => file.type === "chunk" && file.isEntry);
      const names = readdirSync("public", { recursive: true, withFileTypes: true })
        .filter((file) => file.isFile())
        .map((file) => `${file.parentPath}/${file.name}`.replaceAll("\\", "/"))
        .sort();
      const built = Object.keys(bundle).filter((name) => /\.(js|css)$/.test(name));
      const files = [...built.sort(), ...names.map((name) => name.slice("public/".length))];
      const source = readFileSync("sw.js", "utf8");
      const hash = createHash("sha256").update(source).update(files.join("\n"));
      for (const name of ["index.html", ...names]) hash.update(readFileSync(name));
      const version = hash.digest("hex").slice(0, 16);
      const build = { version, entry: entry?.fileName, files: files.map((name) => `/${name}`) };
      const text = `const BUILD = ${JSON.stringify(build)};\n${source}`;
      this.emitFile({ type: "asset", fileName: "sw.js", source: text });
    },
  },
};

export default defineConfig({
  plugins: [onlyWoff2, serviceWorker],
  // Tests must not fail on a slow machine.
  test: { testTimeout: 120_000 },
  build: {
    outDir: "../src/chat_api/page",
    emptyOutDir: true,
    target: "es2022",
    license: { fileName: "licenses.md" }, // of what goes into the page
    // The page's security policy allows no fonts and images out of data: addresses.
    assetsInlineLimit: 0,
  },
  // Beside a running local stack, whose API and sign-in it uses (see CONTRIBUTING.md).
  server: { port: 5173, strictPort: true, proxy: { "/config.json": "http://localhost:3000" } },
});
