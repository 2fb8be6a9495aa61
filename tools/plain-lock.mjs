// Takes out of a package-lock.json what names a host and is not needed to install: who asks for
// donations where. `resolved` is left out by npm itself (tools/lock.sh).
import { readFileSync, writeFileSync } from "node:fs";

const [path] = process.argv.slice(2);
const lock = JSON.parse(readFileSync(path, "utf8"));
for (const locked of Object.values(lock.packages)) delete locked.funding;
writeFileSync(path, JSON.stringify(lock, null, 2) + "\n");
