/**
 * The browser tests: the real binary, Debian's Chromium, one file after the other, because each
 * file starts its own server and browser and the timings of two would disturb each other. With
 * MEASURE set, what prints figures instead.
 */

import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: [process.env["MEASURE"] ? "e2e/**/*.measure.ts" : "e2e/**/*.test.ts"],
    environment: "node",
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
