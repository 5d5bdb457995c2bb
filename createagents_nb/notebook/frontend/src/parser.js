// Markdown to tokens: the same rules as in `render/markdown.py`.

import MarkdownIt from "markdown-it";
import { backticks } from "./backticks.js";
import constants from "./constants.json";
import { addMathsRules } from "./maths.js";

/** @import Token from "markdown-it/lib/token.mjs" */

const { limits } = constants;
const SAFE_HREF = /^(?:https?:|mailto:|#)/i;
const TASK = /^\[([ xX])\][ \t]+(?=\S)/;

/** @param {string} url A normalised link destination. */
export function isSafeHref(url) {
  return url.length <= limits.hrefChars && SAFE_HREF.test(url);
}

/** The type definitions lack `maxNesting`. */
const OPTIONS = { html: false, maxNesting: limits.nesting };
const md = new MarkdownIt("commonmark", OPTIONS);
md.enable(["table", "strikethrough"]).disable(["html_block", "html_inline"]);
md.validateLink = isSafeHref;
addMathsRules(md);
md.inline.ruler.at("backticks", backticks);

/**
 * @typedef {{ references: Record<string, { href: string, title: string }>, end?: (content: string) => string }} Env
 * `references` is read and extended; `end` completes the last inline text of an answer that is still growing.
 */

md.core.ruler.before("inline", "end_of_text", (state) => {
  const { end } = /** @type {Env} */ (state.env);
  if (!end) return;
  const last = state.tokens.findLast((token) => !token.hidden && token.nesting === 0 && token.content.trim());
  if (last?.type === "inline") last.content = end(last.content);
});

/** @param {string} text Whether it is too long to be parsed as Markdown. */
export function isTooLong(text) {
  return text.length > limits.chars || count(text, "\n") > limits.lines || count(text, "[") > limits.brackets;
}

/** @param {string} text @param {string} char */
function count(text, char) {
  let found = 0;
  for (let at = text.indexOf(char); at >= 0; at = text.indexOf(char, at + 1)) found += 1;
  return found;
}

/** @param {Token[]} tokens */
function markTasks(tokens) {
  tokens.forEach((item, at) => {
    if (item.type !== "list_item_open" || tokens[at + 1]?.type !== "paragraph_open") return;
    const first = tokens[at + 2]?.children?.[0];
    const task = first?.type === "text" && TASK.exec(first.content);
    if (!first || !task) return;
    first.content = first.content.slice(task[0].length);
    item.meta = { checked: task[1] !== " " };
  });
}

/**
 * The tokens of clean text, or null if it is nested too deeply.
 * @param {string} text @param {Env} env
 */
export function parse(text, env) {
  const tokens = md.parse(text, env);
  // The parser drops content beyond its nesting limit.
  if (tokens.some((token) => token.level >= limits.nesting - 2)) return null;
  markTasks(tokens);
  return tokens;
}

/**
 * @typedef {{ type: string, start: number }} Block
 * The blocks of a text with their first lines; and the first lines of the items or rows, for a single list or table.
 * @param {string} text
 */
export function blocksOf(text) {
  /** @type {Token[]} */
  const tokens = [];
  md.block.parse(text, md, { references: {} }, tokens);
  /** @type {Block[]} */
  const blocks = [];
  /** @type {number[]} */
  const parts = [];
  let isLoose = false;
  for (const { level, nesting, map, type, hidden } of tokens) {
    if (nesting < 0 || !map) continue;
    if (level === 0) blocks.push({ type, start: map[0] });
    else if ((level === 1 && type === "list_item_open") || (level === 2 && type === "tr_open" && map[0] > 1)) parts.push(map[0]);
    else if (level === 2 && type === "paragraph_open" && !hidden) isLoose = true;
  }
  return { blocks, parts, isLoose };
}

/**
 * Make the list at the beginning loose, as blank lines between its items would.
 * @param {Token[]} tokens
 */
export function loosen(tokens) {
  for (const token of tokens) {
    if (token.level === 0 && token.nesting < 0) return;
    if (token.level === 2 && token.type.startsWith("paragraph_")) token.hidden = false;
  }
}
