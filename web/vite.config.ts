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

export default defineConfig({
  plugins: [onlyWoff2],
  // What a test proves is not how fast the machine is.
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
