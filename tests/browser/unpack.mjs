// Unpacks the Chromium of the package into node_modules/.chromium. With it come the few
// libraries that a bare machine may lack (lib/), and a font (fonts/).
import { cpSync, mkdirSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("node_modules/.chromium", import.meta.url));
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder);
// The package unpacks into the folder for temporary files; the libraries only where it believes to
// be in the cloud that it was made for.
process.env.TMPDIR = folder;
process.env.AWS_EXECUTION_ENV = "AWS_Lambda_nodejs20.x";
const { default: chromium } = await import("@sparticuz/chromium");
await chromium.executablePath();
cpSync(`${folder}/al2023/lib`, `${folder}/lib`, { recursive: true });
rmSync(`${folder}/al2023`, { recursive: true });
