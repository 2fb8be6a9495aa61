import { defineConfig } from "vite";

export default defineConfig({
  build: {
    outDir: "../src/chat_api/page",
    emptyOutDir: true,
    target: "es2022",
    // The page's security policy allows no fonts and images out of data: addresses.
    assetsInlineLimit: 0,
    reportCompressedSize: true,
  },
  // Beside a running local stack, whose API and sign-in it uses (see CONTRIBUTING.md).
  server: { port: 5173, strictPort: true, proxy: { "/config.json": "http://localhost:3000" } },
});
