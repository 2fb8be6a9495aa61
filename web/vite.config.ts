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
  server: { port: 3000, strictPort: true },
});
