/**
 * Builds the page into `dist/`: one `index.html` and hashed files under `assets/`, the exact
 * shape that the server embeds and serves. `public/.gitkeep` is copied along, so that a build
 * leaves the committed placeholder where it was.
 */

import { defineConfig } from "vite";

/** Where `npm run dev` finds a running server for what it does not serve itself. */
const target = process.env["PROGRESSD_ORIGIN"] ?? "http://127.0.0.1:8080";
// The host is rewritten as well, because the server answers to its own names only.
const proxy = { target, changeOrigin: true, headers: { origin: target } };

export default defineConfig({
  build: {
    target: ["chrome123", "firefox128", "safari17.5"],
    // The server's policy allows scripts, styles and fonts from files only, never from `data:`.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: {
    // The Postman collection is beside this directory.
    fs: { allow: [".."] },
    proxy: { "/api": proxy, "/docs": proxy, "/examples": proxy, "/sse": proxy },
  },
});
