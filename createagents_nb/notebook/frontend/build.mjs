// `npm run build [-- --out FOLDER]`: two files, what every view carries and what a page loads once.

import { build } from "esbuild";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const at = process.argv.indexOf("--out");
const outdir = at > 0 ? process.argv[at + 1] : fileURLToPath(new URL("../static", import.meta.url));

await build({
  absWorkingDir: here,
  entryPoints: { loader: "src/loader.js", frontend: "src/frontend.js" },
  outdir,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  banner: { js: "// Built by `make frontend` from createagents_nb/notebook/frontend; licences in frontend/LICENSES.md." },
  // Bare addresses are never made links, and the browser has the table of character references.
  alias: { "linkify-it": "./src/no_linkify.js", entities: "./src/entities.js" },
  logLevel: "warning",
});
