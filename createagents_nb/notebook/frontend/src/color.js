// Syntax highlighting, in the colors of `render/highlight.py`: another lexer, the same palette.

import bash from "highlight.js/lib/languages/bash";
import cpp from "highlight.js/lib/languages/cpp";
import csharp from "highlight.js/lib/languages/csharp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import dockerfile from "highlight.js/lib/languages/dockerfile";
import go from "highlight.js/lib/languages/go";
import ini from "highlight.js/lib/languages/ini";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import julia from "highlight.js/lib/languages/julia";
import kotlin from "highlight.js/lib/languages/kotlin";
import latex from "highlight.js/lib/languages/latex";
import lua from "highlight.js/lib/languages/lua";
import makefile from "highlight.js/lib/languages/makefile";
import markdown from "highlight.js/lib/languages/markdown";
import powershell from "highlight.js/lib/languages/powershell";
import python from "highlight.js/lib/languages/python";
import pythonRepl from "highlight.js/lib/languages/python-repl";
import r from "highlight.js/lib/languages/r";
import ruby from "highlight.js/lib/languages/ruby";
import rust from "highlight.js/lib/languages/rust";
import shell from "highlight.js/lib/languages/shell";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { createLowlight } from "lowlight";
import constants from "./constants.json";

/**
 * @import { Child } from "./tree.js"
 * @import { ElementContent } from "hast"
 */

const MAX_COLORED_CHARS = constants.limits.coloredChars;
const SMALL = 2_000;
const MAX_CACHED = 50;

/** @type {Record<string, string>} */
const LANGUAGES = constants.languages;
/** @type {Record<string, string>} */
const COLORS = constants.codeColors;

const GRAMMARS = {
  bash, c: cpp, console: shell, cpp, csharp, css, diff, docker: dockerfile, go, html: xml, ini, java, javascript,
  json, julia, kotlin, latex, lua, make: makefile, markdown, powershell, pycon: pythonRepl, python, r, ruby, rust,
  sql, toml: ini, typescript, xml, yaml,
}; // prettier-ignore

const EMBEDDED = { css, javascript, python, xml };
const lowlight = createLowlight();

/** Whether a language can be highlighted; its grammar is registered on first use. @param {string} language */
function isKnown(language) {
  if (!lowlight.registered(language)) {
    if (!Object.hasOwn(GRAMMARS, language)) return false;
    // Some grammars embed these.
    lowlight.register({ ...EMBEDDED, [language]: GRAMMARS[/** @type {keyof typeof GRAMMARS} */ (language)] });
  }
  return true;
}

/** highlight.js's classes in terms of the theme's palette. @type {Record<string, string>} */
const KINDS = {
  "hljs-keyword": "keyword",
  "hljs-literal": "atom",
  "hljs-number": "number",
  "hljs-built_in": "builtin",
  "hljs-type": "builtin",
  "hljs-string": "string",
  "hljs-regexp": "string-2",
  "hljs-symbol": "atom",
  "hljs-title": "def",
  "hljs-comment": "comment",
  "hljs-doctag": "comment",
  "hljs-meta": "meta",
  "hljs-attr": "attribute",
  "hljs-attribute": "attribute",
  "hljs-name": "tag",
  "hljs-tag": "tag",
  "hljs-section": "header",
  "hljs-addition": "tag",
  "hljs-deletion": "error",
  "hljs-operator": "operator",
  "hljs-selector-tag": "tag",
  "hljs-selector-class": "attribute",
  "hljs-selector-id": "attribute",
};

/** Recently highlighted code. @type {Map<string, Child[]>} */
const cached = new Map();

/** @param {string} info A fence's info string. @returns {string} The language it names, or "" if unknown. */
export function languageOf(info) {
  const word = /^\s*(\S+)/.exec(info)?.[1] ?? "";
  const name = word.toLowerCase().replace(/^[{}.]+|[{}.]+$/g, "");
  return Object.hasOwn(LANGUAGES, name) ? LANGUAGES[name] : "";
}

/** The last rendering of a growing block: its colors stay while text is added. */
let growing = { language: "", code: "", children: /** @type {Child[]} */ ([]) };

/**
 * Code as colored spans, if its language is known and it is not too long.
 * @param {string} code @param {string} language
 * @param {boolean} grows More may be added: then long code is highlighted again only when it has grown by a quarter.
 * @returns {Child[]}
 */
export function colored(code, language, grows) {
  const plain = code ? [code] : [];
  if (!code || code.length > MAX_COLORED_CHARS || !isKnown(language)) return plain;
  if (!grows || code.length < SMALL) return colorCached(code, language);
  const last = growing;
  if (last.language === language && code.startsWith(last.code) && code.length < 1.25 * last.code.length) {
    const added = code.slice(last.code.length);
    return added ? [...last.children, added] : last.children;
  }
  growing = { language, code, children: color(code, language) };
  return growing.children;
}

/** @param {string} code @param {string} language */
function colorCached(code, language) {
  const key = `${language}\n${code}`;
  let children = cached.get(key);
  if (!children) {
    children = color(code, language);
    if (cached.size >= MAX_CACHED) cached.delete(/** @type {string} */ (cached.keys().next().value));
    cached.set(key, children);
  }
  return children;
}

/** @param {string} code @param {string} language @returns {Child[]} */
function color(code, language) {
  /** @type {Child[]} */
  const children = [];
  let last = "";
  /** @param {ElementContent[]} nodes @param {string} kind */
  function walk(nodes, kind) {
    for (const part of nodes) {
      if (part.type === "element") {
        const classes = /** @type {string[]} */ (part.properties.className ?? []);
        walk(part.children, classes.map((name) => KINDS[name]).find(Boolean) ?? kind);
      } else if (part.type === "text") {
        const end = children.at(-1);
        const holder = typeof end === "string" ? children : end?.children;
        if (end !== undefined && holder && (kind === last || !part.value.trim())) {
          holder[holder.length - 1] = `${holder.at(-1)}${part.value}`;
        } else {
          children.push(kind ? { tag: "span", attrs: { style: styleOf(kind) }, children: [part.value] } : part.value);
          last = kind;
        }
      }
    }
  }
  walk(/** @type {ElementContent[]} */ (lowlight.highlight(language, code).children), "");
  return children;
}

/** @param {string} kind */
function styleOf(kind) {
  const slant = kind === "comment" ? ";font-style:italic" : "";
  return `color:var(--jp-mirror-editor-${kind}-color,${COLORS[kind]})${slant}`;
}
