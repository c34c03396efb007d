/** The collection is what the API's description and the examples make of it, and these fit each other. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { faultsOf } from "./faults.js";
import { api, folders, makeFiles, variables } from "./files.js";

test("every route has an example, and every example fits its route", () => {
  assert.deepEqual(faultsOf(api, folders, variables), []);
});

test("the files are up to date", () => {
  for (const [name, content] of Object.entries(makeFiles())) {
    const written = readFileSync(new URL(name, import.meta.url), "utf8");
    assert.equal(written, content, `${name} is outdated: npm run generate`);
  }
});

const description = {
  paths: {
    "/things/{id}": {
      put: {
        summary: "Puts a thing.",
        parameters: [
          { name: "id", in: "path", required: true, schema: { type: "string", format: "uuid" } },
          { name: "limit", in: "query", required: true, schema: { type: "integer", maximum: 9 } },
        ],
        requestBody: {
          required: true,
          content: { "application/json": { schema: { $ref: "#/components/schemas/Thing" } } },
        },
        responses: { 200: { content: { "application/json": { schema: {} } } } },
      },
    },
  },
  components: {
    schemas: {
      Thing: { properties: { size: { type: "integer" } }, additionalProperties: false },
    },
  },
};
const fitting = {
  route: "PUT /things/{id}",
  name: "Put",
  query: { limit: "{{limit}}" },
  json: { size: 1 },
  has: { size: 1 },
};
const values = { id: "0199c0de-0000-7000-8000-000000000001", limit: "9" };

function faultOf(change, api = description) {
  const faults = faultsOf(
    api,
    [{ name: "Things", about: "", requests: [{ ...fitting, ...change }] }],
    values,
  );
  assert.ok(faults.length <= 1, `${faults}`);
  return faults[0];
}

test("an example that does not fit is found", () => {
  assert.equal(faultOf({}), undefined);
  assert.equal(faultOf({ json: { size: "1" } }), "Put: body: data/size must be integer");
  assert.equal(
    faultOf({ json: { sise: 1 } }),
    "Put: body: data must NOT have additional properties",
  );
  assert.equal(faultOf({ json: undefined }), "Put: the body is missing");
  assert.equal(
    faultOf({ json: undefined, form: { size: "1" } }),
    "Put: it takes no application/x-www-form-urlencoded",
  );
  assert.equal(faultOf({ query: {} }), "Put: limit is missing");
  assert.equal(faultOf({ query: { limit: "10" } }), "Put: limit: data must be <= 9");
  assert.equal(
    faultOf({ query: { limit: "9", page: "2" } }),
    "Put: it has no query parameter page",
  );
  assert.equal(faultOf({ path: { id: "7" } }), 'Put: id: data must match format "uuid"');
  assert.equal(
    faultOf({ query: { limit: "9" }, json: { size: 1 }, set: { a: "{{b}}" } }),
    "Put: there is no variable b",
  );
  assert.equal(faultOf({ status: 404 }), "Put: it does not answer 404");
  assert.equal(faultOf({ type: "text/html" }), "Put: it does not answer text/html");
  assert.equal(faultOf({ has: undefined }), "Put: nothing is asked of its answer");
});

test("a route without an example is found, and an example without a route", () => {
  const more = structuredClone(description);
  more.paths["/things/{id}"].delete = { summary: "Deletes a thing.", responses: { 204: {} } };
  assert.equal(faultOf({}, more), "DELETE /things/{id}: there is no request");
  const examples = [fitting, { ...fitting, name: "Get", route: "GET /things/{id}" }, fitting];
  const faults = faultsOf(description, [{ name: "Things", about: "", requests: examples }], values);
  assert.deepEqual(faults, ["Put: the name is taken", "Get: there is no route GET /things/{id}"]);
});
