/** The unit tests: pure code and injected `fetch`, no browser and no server. */

import { defineConfig } from "vitest/config";

export default defineConfig({
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
