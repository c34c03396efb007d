/**
 * The real binary, started for one test file on a port and a data directory of its own.
 *
 * Owns the process: it is stopped by its id, and its directory goes with it.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export interface Server {
  /** Where it listens, without a slash at the end. */
  origin: string;
  /** Kills the process as a power cut would, and starts it again on the same port and data. */
  crash(): Promise<void>;
  restart(): Promise<void>;
  /** Stops the process, which then answers nobody but keeps its connections, and lets it go on. */
  freeze(): void;
  thaw(): void;
  stop(): Promise<void>;
}

/** How long a start or a drain may take before the test says that it hangs. */
const PATIENCE_MS = 20_000;

export async function startServer(...settings: readonly string[]): Promise<Server> {
  const dataDir = await mkdtemp(join(tmpdir(), "progressd-e2e-"));
  let child = run("127.0.0.1:0", dataDir, settings);
  const origin = await listening(child);

  return {
    origin,
    crash: () => end(child, "SIGKILL"),
    async restart() {
      child = run(new URL(origin).host, dataDir, settings);
      await listening(child);
    },
    freeze: () => child.kill("SIGSTOP"),
    thaw: () => child.kill("SIGCONT"),
    async stop() {
      child.kill("SIGCONT");
      await end(child, "SIGTERM");
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

function run(listen: string, dataDir: string, settings: readonly string[]): ChildProcess {
  const stdio: ["ignore", "pipe", "inherit"] = ["ignore", "pipe", "inherit"];
  const arguments_ = ["serve", "--listen", listen, "--data-dir", dataDir, ...settings];
  return spawn(binary(), arguments_, { stdio, env: ownSettings() });
}

/** The environment without any setting of the service: a test runs with what it says itself. */
function ownSettings(): NodeJS.ProcessEnv {
  const others = Object.entries(process.env).filter(([name]) => !name.startsWith("PROGRESSD_"));
  return { ...Object.fromEntries(others), PROGRESSD_LOG: "warn" };
}

function binary(): string {
  const fromHere = (path: string) => fileURLToPath(new URL(path, import.meta.url));
  const candidates = [
    process.env["PROGRESSD_BIN"],
    fromHere("../../target/release/progressd"),
    fromHere("../../target/debug/progressd"),
  ];
  const found = candidates.find((path) => path !== undefined && existsSync(path));
  if (found === undefined) throw new Error("build progressd first, or set PROGRESSD_BIN");
  return found;
}

/** Waits for the line that says where the server listens. */
async function listening(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error("the server has no output");
  const lines = createInterface({ input: child.stdout });
  for await (const line of within(lines, child)) {
    const [, origin] = /listening on (http:\/\/\S+?)\/?$/.exec(line) ?? [];
    if (origin === undefined) continue;
    // From here on nobody reads the output; an unread pipe would in the end stop its writer.
    child.stdout.resume();
    return origin;
  }
  throw new Error(`the server ended before it listened (exit code ${child.exitCode})`);
}

function within(lines: AsyncIterable<string>, child: ChildProcess): AsyncIterable<string> {
  const timer = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
  return {
    async *[Symbol.asyncIterator]() {
      try {
        yield* lines;
      } finally {
        clearTimeout(timer);
      }
    },
  };
}

async function end(child: ChildProcess, signal: "SIGTERM" | "SIGKILL"): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  const timer = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
  child.kill(signal);
  await ended;
  clearTimeout(timer);
}
