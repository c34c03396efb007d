/** Writes the files that Postman imports: `npm run generate`. */

import { writeFileSync } from "node:fs";
import { makeFiles } from "./files.js";

for (const [name, content] of Object.entries(makeFiles())) {
  writeFileSync(new URL(name, import.meta.url), content);
}
