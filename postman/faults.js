/** What is wrong with the examples, by the description of the API. */

import { Ajv2020 } from "ajv/dist/2020.js";
import { resolve } from "./collection.js";

const FORMATS = {
  uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  "date-time": (text) => !Number.isNaN(Date.parse(text)),
  // What they say of a number, `minimum` says as well; of bytes there is nothing to say.
  ...{ binary: true, double: true, int32: true, int64: true },
};
/** A request that is to be refused for these need not fit. */
const INVALID = [400, 422];
const VARIABLE = /\{\{(.+?)\}\}/g;

/** What is wrong with all examples; nothing, if the collection can be made of them. */
export function faultsOf(api, folders, variables) {
  const examples = folders.flatMap(({ requests }) => requests);
  const names = examples.map(({ name }) => name);
  const routes = Object.entries(api.paths).flatMap(([path, operations]) =>
    Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`),
  );
  const shown = new Set(examples.map(({ route }) => route));
  const findFault = createFaultFinder(api);
  return [
    ...routes.filter((route) => !shown.has(route)).map((route) => `${route}: there is no request`),
    ...names
      .filter((name, at) => names.indexOf(name) < at)
      .map((name) => `${name}: the name is taken`),
    ...examples.flatMap((example) => {
      try {
        return misfits(findFault, example, resolve(api, example), variables);
      } catch (error) {
        return [error.message];
      }
    }),
  ];
}

/**
 * Finds what is wrong with a value, by the schema at a path of the description. Parameters and form
 * fields are texts, which stand for numbers and so on.
 */
export function createFaultFinder(api) {
  const [forJson, forTexts] = [false, true].map((coerceTypes) =>
    new Ajv2020({ strict: false, formats: FORMATS, coerceTypes }).addSchema(api, "api"),
  );
  return (path, value, isText = false) => {
    const parts = path.map((part) => `${part}`.replaceAll("~", "~0").replaceAll("/", "~1"));
    const ajv = isText ? forTexts : forJson;
    const validate = ajv.compile({ $ref: `api#/${parts.map(encodeURIComponent).join("/")}` });
    return validate(value) ? undefined : ajv.errorsText(validate.errors);
  };
}

function misfits(findFault, example, resolved, variables) {
  const { path, method, operation, status, type, parameters } = resolved;
  const faults = [];
  const check = (what, at, value, isText) => {
    if (INVALID.includes(status)) return;
    const schema = ["paths", path, method.toLowerCase(), ...at, "schema"];
    const fault = findFault(schema, filled(value, variables), isText);
    if (fault !== undefined) faults.push(`${what}: ${fault}`);
  };

  for (const [, name] of JSON.stringify(example).matchAll(VARIABLE)) {
    if (!(name in variables) && !name.startsWith("$")) faults.push(`there is no variable ${name}`);
  }
  for (const [at, { name, required, schema, value }] of parameters.entries()) {
    if (value === undefined && required) faults.push(`${name} is missing`);
    if (value === undefined) continue;
    const isList = schema.type === "array";
    const given = isList ? [value].flat().flatMap((one) => one.split(",")) : value;
    check(name, ["parameters", at], given, true);
  }
  const [bodyType, body] = bodyOf(example);
  if (body === undefined) {
    if (operation.requestBody?.required) faults.push("the body is missing");
  } else if (operation.requestBody?.content[bodyType] === undefined) {
    faults.push(`it takes no ${bodyType}`);
  } else {
    check("body", ["requestBody", "content", bodyType], body, example.json === undefined);
  }
  if (type !== undefined && !(example.has ?? example.contains ?? example.headers)) {
    faults.push("nothing is asked of its answer");
  }
  return faults.map((fault) => `${example.name}: ${fault}`);
}

function bodyOf({ json, form, files }) {
  if (form !== undefined) return ["application/x-www-form-urlencoded", form];
  if (files !== undefined) return ["multipart/form-data", files];
  return ["application/json", json];
}

/** A value with what its variables stand for. */
function filled(value, variables) {
  const escaped = (name) => JSON.stringify(variables[name] ?? "").slice(1, -1);
  return JSON.parse(JSON.stringify(value).replace(VARIABLE, (_, name) => escaped(name)));
}
