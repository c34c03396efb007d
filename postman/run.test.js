/**
 * Newman sends every request to the real binary; each answer is what the collection and the
 * description say.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import newman from "newman";
import { resolve } from "./collection.js";
import { createFaultFinder } from "./faults.js";
import { api, folders, makeFiles } from "./files.js";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const BINARY = process.env.PROGRESSD_BIN ?? join(HERE, "../target/debug/progressd");
/** How long all requests together may take before the test says that one of them hangs. */
const PATIENCE_MS = 60_000;

test("every request is answered as it should be", { timeout: PATIENCE_MS }, async (context) => {
  const relay = await startRelay(context, await startService(context));
  const requests = folders.flatMap((folder) => folder.requests);
  const examples = new Map(requests.map((example) => [example.name, example]));

  const files = makeFiles();
  const running = newman.run({
    collection: JSON.parse(files["progressd.postman_collection.json"]),
    environment: JSON.parse(files["progressd.postman_environment.json"]),
    envVar: [{ key: "baseUrl", value: relay.origin }],
    workingDir: HERE,
  });
  running.on("beforeRequest", (_, { item }) => relay.hangUpAfter(examples.get(item.name).endless));
  const [error, { run }] = await once(running, "done");

  assert.equal(error, null);
  const failures = run.failures.map(({ source, error }) => `${source?.name}: ${error.message}`);
  assert.deepEqual(failures, []);
  assert.equal(run.executions.length, requests.length, "each request is sent");
  const findFault = createFaultFinder(api);
  for (const { item, assertions, response } of run.executions) {
    assert.ok(assertions?.length >= 2, `${item.name} has its tests`);
    const schema = schemaOfAnswer(examples.get(item.name));
    if (schema !== undefined)
      assert.equal(findFault(schema, response.json()), undefined, item.name);
  }
});

/** Where the description holds the schema of an answer in JSON. */
function schemaOfAnswer(example) {
  const { path, method, operation, status, type } = resolve(api, example);
  const isJson = ["application/json", "application/problem+json"].includes(type);
  if (!isJson || !operation.responses[status]?.content?.[type]?.schema) return undefined;
  const responses = ["paths", path, method.toLowerCase(), "responses"];
  return [...responses, status, "content", type, "schema"];
}

/** Starts the binary on a free port and with data of its own; the end of the test stops it. */
async function startService(context) {
  const dataDir = await mkdtemp(join(tmpdir(), "progressd-postman-"));
  const others = Object.entries(process.env).filter(([name]) => !name.startsWith("PROGRESSD_"));
  const child = spawn(BINARY, ["serve", "--listen", "127.0.0.1:0", "--data-dir", dataDir], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...Object.fromEntries(others), PROGRESSD_LOG: "warn" },
  });
  context.after(async () => {
    if (child.exitCode === null && child.kill()) await once(child, "exit");
    await rm(dataDir, { recursive: true, force: true });
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const [, origin] = /listening on (http:\/\/[^\s/]+)/.exec(line) ?? [];
    if (origin === undefined) continue;
    // From here on nobody reads the output; an unread pipe would in the end stop its writer.
    child.stdout.resume();
    return origin;
  }
  throw new Error("the service ended before it listened");
}

/** Stands between Newman and the service, and ends the streams that do not end by themselves. */
async function startRelay(context, origin) {
  let ending;
  const relay = createServer((asked, answered) => {
    const until = ending;
    const { method, headers, url } = asked;
    const asking = request(`${origin}${url}`, { method, headers }, (answer) => {
      answered.writeHead(answer.statusCode, answer.headers);
      if (until === undefined) return void answer.pipe(answered);
      let text = "";
      answer.setEncoding("utf8").on("data", (piece) => {
        text += piece;
        answered.write(piece);
        const at = text.indexOf(until);
        if (at < 0 || !text.includes("\n\n", at)) return;
        asking.destroy();
        answered.end();
      });
    });
    asking.on("error", (error) => answered.destroy(error));
    asked.pipe(asking);
  });
  relay.listen(0, "127.0.0.1");
  await once(relay, "listening");
  context.after(() => {
    relay.close();
    relay.closeAllConnections();
  });
  return {
    origin: `http://127.0.0.1:${relay.address().port}`,
    /** Ends the answer to the next request after the event that holds this text. */
    hangUpAfter(text) {
      ending = text;
    },
  };
}
