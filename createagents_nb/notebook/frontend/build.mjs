// `npm run build [-- --out FOLDER]`: bundles the loader of every view and the front end, and collects the licenses.

import { build } from "esbuild";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const at = process.argv.indexOf("--out");
const outdir = at > 0 ? process.argv[at + 1] : fileURLToPath(new URL("../static", import.meta.url));

const { metafile } = await build({
  absWorkingDir: here,
  entryPoints: { loader: "src/loader.js", frontend: "src/frontend.js" },
  outdir,
  bundle: true,
  minify: true,
  metafile: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  banner: { js: "// Built by `make frontend` from createagents_nb/notebook/frontend. Licences: LICENSES.txt beside this file." },
  // Bare addresses never become links, and the browser has the table of character references.
  alias: { "linkify-it": "./src/no_linkify.js", entities: "./src/entities.js" },
  logLevel: "warning",
});

const packages = Object.keys(metafile.inputs).map((input) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(input)?.[1]);
const texts = [...new Set(packages.filter(Boolean))].sort().map((name) => {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((found) => /^licen[cs]e/i.test(found));
  if (!file) throw new Error(`${name} comes without the text of its licence`);
  return `${name} ${version} (${license})\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
});
writeFileSync(join(outdir, "LICENSES.txt"), texts.join(`\n${"-".repeat(80)}\n\n`));
