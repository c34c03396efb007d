/**
 * Builds the page into `dist/`: one `index.html` and hashed files under `assets/`, the exact
 * shape that the server embeds and serves. `public/.gitkeep` is copied along, so that a build
 * leaves the committed placeholder where it was.
 */

import { defineConfig } from "vite";

/** Where `npm run dev` finds a running server for the API routes. */
const API_ORIGIN = process.env["PROGRESSD_ORIGIN"] ?? "http://127.0.0.1:8080";

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
    // The host is rewritten as well, because the server answers to its own names only.
    proxy: { "/api": { target: API_ORIGIN, changeOrigin: true, headers: { origin: API_ORIGIN } } },
  },
});
