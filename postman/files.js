/** The files that Postman imports. */

import { readFileSync } from "node:fs";
import { collection, environment } from "./collection.js";
import { folders, variables as kept, settings } from "./requests/index.js";

export { folders };

/** All variables, with the values that they have at first. */
export const variables = { ...settings, ...kept };

/** @type {import("./collection.js").Api} */
export const api = JSON.parse(
  readFileSync(new URL("../tests/fixtures/openapi.json", import.meta.url), "utf8"),
);

/** What each file holds, by its name. */
export function makeFiles() {
  return {
    "progressd.postman_collection.json": written(collection(api, folders, variables)),
    "progressd.postman_environment.json": written(environment(settings)),
  };
}

/** @param {unknown} content */
function written(content) {
  return `${JSON.stringify(content, null, 2)}\n`;
}
