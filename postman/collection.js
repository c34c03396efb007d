/**
 * Makes the Postman collection of the API's description and the examples in `requests/`.
 *
 * Pure. Routes, parameters and what they mean come from the description; values, and what an answer
 * must hold, come from the examples.
 */

/** @typedef {Record<string, { schema: object }>} Content */
/** @typedef {"path" | "query" | "header"} Place */
/**
 * @typedef {object} Parameter
 * @property {string} name
 * @property {Place} in
 * @property {string} [description]
 * @property {unknown} [example]
 * @property {{ default?: unknown, enum?: unknown[] }} schema
 */
/**
 * @typedef {object} Operation
 * @property {string} summary
 * @property {Parameter[]} [parameters]
 * @property {{ content: Content }} [requestBody]
 * @property {Record<string, { content?: Content }>} responses
 */
/** @typedef {{ paths: Record<string, Record<string, Operation>> }} Api */

/**
 * A request, and what its answer must be. Texts may hold `{{variables}}`.
 *
 * @typedef {object} Example
 * @property {string} route As the description names it, such as `GET /api/tasks/{taskId}`.
 * @property {string} name What it does; no other request has this name.
 * @property {string} [about] One line; the summary of the route if absent.
 * @property {Record<string, string>} [set] Variables that are set before it is sent.
 * @property {Record<string, string>} [path] Path parameters other than the variable of the same name.
 * @property {Record<string, string | string[]>} [query]
 * @property {Record<string, string>} [header]
 * @property {Record<string, unknown> | unknown[]} [json] The body, as JSON.
 * @property {Record<string, string>} [form] The body, as form fields.
 * @property {Record<string, string>} [files] The body, as a form with files of this directory.
 * @property {number} [status] The first status that the route describes, if absent.
 * @property {string} [type] The media type of the answer; needed if the description leaves a choice.
 * @property {Record<string, unknown>} [has] Members of the answer, or of the data of the last event
 *   of a stream: the path of each, and its value or a pattern of it.
 * @property {string[]} [contains] Texts in the answer.
 * @property {Record<string, RegExp>} [headers] Headers of the answer.
 * @property {Record<string, string | RegExp | { header: string }>} [keep] Variables that are set
 *   from the answer: from the path of a member, the first group of a pattern in the text, or a header.
 * @property {string} [endless] A stream that does not end by itself: a text of the event after which
 *   the test hangs up.
 */

/** @typedef {{ name: string, about: string, requests: Example[] }} Folder */

/** A fixed id: Postman then offers to replace a collection that was imported before. */
const ID = "f65f0bd2-6a64-4c54-9a0e-3a3a2d1b7c0e";
const SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json";
/** @type {Place[]} */
const PLACES = ["path", "query", "header"];
const EVENT_STREAM = "text/event-stream";
const ABOUT = `Every route of progressd, each with an example and tests of its answer. Start progressd,
then send the requests of a folder from top to bottom: each keeps the ids that later ones need. If
progressd does not listen on http://127.0.0.1:8080, set \`baseUrl\` in the environment.

Postman shows the events of a stream as they arrive, and runs the tests at its end. The streams of
the last folder do not end: leave it out of a run.`;

/**
 * @param {Api} api
 * @param {Folder[]} folders
 * @param {Record<string, string>} variables
 */
export function collection(api, folders, variables) {
  return {
    info: { _postman_id: ID, name: "progressd", description: ABOUT, schema: SCHEMA },
    item: folders.map(({ name, about, requests }) => ({
      name,
      description: about,
      item: requests.map((example) => item(api, example)),
    })),
    variable: Object.entries(variables).map(([key, value]) => ({ key, value })),
  };
}

/** @param {Record<string, string>} variables */
export function environment(variables) {
  const values = Object.entries(variables).map(([key, value]) => ({ key, value, enabled: true }));
  return { id: ID, name: "progressd", values, _postman_variable_scope: "environment" };
}

/**
 * What the description says of an example: its operation, its answer, and all parameters with the
 * values given.
 *
 * @param {Api} api
 * @param {Example} example
 */
export function resolve(api, example) {
  /** @type {(fault: string) => never} */
  const fail = (fault) => {
    throw new Error(`${example.name}: ${fault}`);
  };
  const [method = "", path = ""] = example.route.split(" ");
  const operation =
    api.paths[path]?.[method.toLowerCase()] ?? fail(`there is no route ${example.route}`);

  const status = example.status ?? Number(Object.keys(operation.responses).sort()[0]);
  const keys = [`${status}`, `${Math.floor(status / 100)}XX`];
  const answers = keys.flatMap((key) => operation.responses[key] ?? []);
  if (answers.length === 0) fail(`it does not answer ${status}`);
  const types = answers.flatMap((answer) => Object.keys(answer.content ?? {}));
  if (example.type === undefined && types.length > 1) fail(`which type of ${types}?`);
  const type = example.type ?? types[0];
  if (type !== undefined && types.length > 0 && !types.includes(type)) {
    fail(`it does not answer ${type}`);
  }

  const described = operation.parameters ?? [];
  for (const place of PLACES) {
    const isKnown = (/** @type {string} */ name) =>
      described.some((parameter) => parameter.in === place && parameter.name === name);
    const unknown = Object.keys(example[place] ?? {}).filter((name) => !isKnown(name));
    if (unknown.length > 0) fail(`it has no ${place} parameter ${unknown}`);
  }
  const parameters = described.map((parameter) => {
    const ownVariable = parameter.in === "path" ? `{{${parameter.name}}}` : undefined;
    return { ...parameter, value: example[parameter.in]?.[parameter.name] ?? ownVariable };
  });
  return { method, path, operation, status, type, parameters };
}

/** @typedef {ReturnType<typeof resolve>} Resolved */

/**
 * @param {Api} api
 * @param {Example} example
 */
function item(api, example) {
  const resolved = resolve(api, example);
  const { method, operation, status } = resolved;
  const isRedirect = status >= 300 && status < 400;
  const before = Object.entries(example.set ?? {}).map(
    ([name, value]) => `pm.collectionVariables.set("${name}", ${literalOf(value)});`,
  );
  return {
    name: example.name,
    ...(isRedirect && { protocolProfileBehavior: { followRedirects: false } }),
    event: [
      ...(before.length > 0 ? [script("prerequest", before)] : []),
      script("test", tests(example, resolved)),
    ],
    request: {
      method,
      description: example.about ?? operation.summary,
      header: headers(resolved),
      ...body(example),
      url: url(resolved),
    },
  };
}

/** @param {Resolved} resolved */
function headers({ operation, type, parameters }) {
  const streams = Object.values(operation.responses).some(({ content }) => content?.[EVENT_STREAM]);
  return [
    ...(streams && type !== undefined ? [{ key: "Accept", value: type }] : []),
    ...parameters.filter((parameter) => parameter.in === "header").flatMap(entries),
  ];
}

/** @param {Resolved} resolved */
function url({ path, parameters }) {
  const segments = path.slice(1).replace(/\{(\w+)\}/g, ":$1");
  const query = parameters.filter((parameter) => parameter.in === "query").flatMap(entries);
  const given = query
    .filter((entry) => !("disabled" in entry))
    .map(({ key, value }) => `${key}=${value}`);
  return {
    raw: `{{baseUrl}}/${segments}${given.length > 0 ? "?" : ""}${given.join("&")}`,
    host: ["{{baseUrl}}"],
    path: segments.split("/"),
    ...(query.length > 0 && { query }),
    variable: parameters
      .filter((parameter) => parameter.in === "path")
      .map(({ name, value, description }) => ({ key: name, value, description })),
  };
}

/**
 * A parameter as Postman lists it, once for each value; switched off if no value was given.
 *
 * @param {Resolved["parameters"][number]} parameter
 */
function entries({ name, value, description, example, schema }) {
  const about = { ...(description !== undefined && { description }) };
  if (value !== undefined) {
    return [value].flat().map((one) => ({ key: name, value: one, ...about }));
  }
  const suggested = example ?? schema.enum?.[0] ?? schema.default ?? "";
  return [{ key: name, value: String(suggested), ...about, disabled: true }];
}

/** @param {Example} example */
function body({ json, form, files }) {
  if (json !== undefined) {
    const raw = JSON.stringify(json, null, 2);
    return { body: { mode: "raw", raw, options: { raw: { language: "json" } } } };
  }
  if (form !== undefined) {
    const urlencoded = Object.entries(form).map(([key, value]) => ({ key, value }));
    return { body: { mode: "urlencoded", urlencoded } };
  }
  if (files !== undefined) {
    const formdata = Object.entries(files).map(([key, src]) => ({ key, type: "file", src }));
    return { body: { mode: "formdata", formdata } };
  }
  return {};
}

/**
 * The tests of an answer, and what is kept of it.
 *
 * @param {Example} example
 * @param {Resolved} resolved
 */
function tests(example, { status, type }) {
  const lines = [`pm.test("status ${status}", () => pm.response.to.have.status(${status}));`];
  if (type === undefined) {
    lines.push(`pm.test("no content", () => pm.expect(pm.response.text()).to.equal(""));`);
  } else {
    const expected = type === "*/*" ? "match(/./)" : `include(${JSON.stringify(type)})`;
    lines.push(test(type, `pm.response.headers.get("content-type")`, expected));
  }
  for (const [name, pattern] of Object.entries(example.headers ?? {})) {
    lines.push(test(`header ${name}`, `pm.response.headers.get("${name}")`, `match(${pattern})`));
  }
  for (const content of example.contains ?? []) {
    lines.push(test(content, "pm.response.text()", `include(${literalOf(content)})`));
  }
  const kept = Object.entries(example.keep ?? {});
  if (example.has !== undefined || kept.some(([, from]) => typeof from === "string")) {
    lines.push(`const answer = ${type === EVENT_STREAM ? LAST_EVENT : "pm.response.json()"};`);
  }
  for (const [path, value] of Object.entries(example.has ?? {})) {
    const [name, expected] =
      value instanceof RegExp
        ? [path, `("${path}").that.matches(${value})`]
        : [`${path} is ${JSON.stringify(value)}`, `("${path}", ${literalOf(value)})`];
    lines.push(test(name, "answer", `have.deep.nested.property${expected}`));
  }
  for (const [name, from] of kept) {
    lines.push(`pm.collectionVariables.set("${name}", ${sourceOf(from)});`);
  }
  return lines;
}

/** The data of the last event of a stream. */
const LAST_EVENT = "JSON.parse(pm.response.text().match(/^data: .*$/gm).at(-1).slice(6))";

/**
 * @param {string} name
 * @param {string} actual
 * @param {string} expected
 */
function test(name, actual, expected) {
  return `pm.test(${JSON.stringify(name)}, () => pm.expect(${actual}).to.${expected});`;
}

/**
 * A value as the script writes it.
 *
 * @param {unknown} value
 */
function literalOf(value) {
  const literal = JSON.stringify(value);
  return literal.includes("{{") ? `pm.variables.replaceIn(${literal})` : literal;
}

/** @param {string | RegExp | { header: string }} from */
function sourceOf(from) {
  if (typeof from === "string") return `answer.${from}`;
  return from instanceof RegExp
    ? `pm.response.text().match(${from})[1]`
    : `pm.response.headers.get("${from.header}")`;
}

/**
 * @param {string} listen
 * @param {string[]} exec
 */
function script(listen, exec) {
  return { listen, script: { type: "text/javascript", exec } };
}
