// Writes src/schema.d.ts, the types of the service's OpenAPI description; with --check, only checks
// whether it is current (exit code 1 if not). PYTHON names the interpreter that has the service.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import openapiTS, { astToString } from "openapi-typescript";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const file = here("src/schema.d.ts");
const describe = `
import json
from chat_api.app import create_app
from chat_api.settings import Settings
print(json.dumps(create_app(Settings(internal_api_key="of no account")).openapi()))
`;
const description = execFileSync(
  process.env.PYTHON ?? here("../.venv/bin/python"),
  ["-c", describe],
  { encoding: "utf8" },
);
const ast = await openapiTS(JSON.parse(description), { alphabetize: true });
const types = `// Written by \`npm run types\` from the service's OpenAPI description.\n\n${astToString(ast)}`;
if (!process.argv.includes("--check")) {
  writeFileSync(file, types);
} else if (readFileSync(file, "utf8") !== types) {
  console.error("src/schema.d.ts is not current: run `npm run types` in web/.");
  process.exit(1);
}
