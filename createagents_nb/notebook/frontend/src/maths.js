// Math in Markdown, and the TeX that may be typeset: the same rules as in `render/maths.py`.

import constants from "./constants.json";

/**
 * @import MarkdownIt from "markdown-it"
 * @import StateBlock from "markdown-it/lib/rules_block/state_block.mjs"
 * @import StateInline from "markdown-it/lib/rules_inline/state_inline.mjs"
 */

const { limits } = constants;
const COMMANDS = new Set(constants.texCommands);
const ENVIRONMENTS = new Set(constants.texEnvironments);

const COMMAND = /\\([A-Za-z]+\*?|[^]|$)/gu;
const ENVIRONMENT = /\\(?:begin|end)\s*(?:\{([A-Za-z]*\*?)\})?/gu;
const ROW_GAP = /\\\\\*?\s*\[(?!\s*\d{0,2}(?:\.\d+)?\s*(?:pt|em|ex|mm)\s*\])/u;
const BEGIN = /^\\begin\{([a-z]+\*?)\}/u;

/**
 * Whether TeX without its delimiters is short, balanced, and limited to known commands.
 * @param {string} tex
 */
export function isSafeTex(tex) {
  if (!tex.trim() || tex.length > limits.texChars || tex.includes("$") || tex.includes("^^") || ROW_GAP.test(tex)) {
    return false;
  }
  for (const [, name] of tex.matchAll(ENVIRONMENT)) if (!ENVIRONMENTS.has(name ?? "")) return false;
  for (const [, name] of tex.matchAll(COMMAND)) {
    if (!COMMANDS.has(name) && !COMMANDS.has(name.replace(/\*$/u, ""))) return false;
  }
  let depth = 0;
  for (const char of tex.replace(COMMAND, " ")) {
    if ("%#`".includes(char)) return false;
    depth += Number(char === "{") - Number(char === "}");
    if (depth < 0 || depth > limits.texBraces) return false;
  }
  return depth === 0;
}

/**
 * The position of the `$` that closes a formula, or -1. By Pandoc's rule, so that prices are not math.
 * @param {string} source @param {number} start @param {number} stop
 */
function closingDollar(source, start, stop) {
  let end = source.indexOf("$", start);
  while (end > 0 && source[end - 1] === "\\") end = source.indexOf("$", end + 1);
  if (end >= stop || end <= start || /\s/u.test(source[start]) || /\s/u.test(source[end - 1])) return -1;
  return /\d/u.test(source[end + 1] ?? "") ? -1 : end;
}

/** @param {StateInline} state @param {boolean} silent */
function inlineRule(state, silent) {
  const { src: source, pos: start } = state;
  let opener, closer;
  if (source[start] === "$") {
    opener = closer = source.startsWith("$$", start) ? "$$" : "$";
    if (/[\p{L}\p{N}]$/u.test(source.slice(Math.max(0, start - 2), start))) return false;
  } else if (source.startsWith("\\(", start) || source.startsWith("\\[", start)) {
    opener = source.slice(start, start + 2);
    closer = opener === "\\(" ? "\\)" : "\\]";
  } else {
    return false;
  }
  const begin = start + opener.length;
  const stop = Math.min(state.posMax, begin + limits.inlineTexChars);
  let end = opener === "$" ? closingDollar(source, begin, stop) : source.indexOf(closer, begin);
  if (end + closer.length > stop) end = -1;
  const tex = source.slice(begin, end);
  // A code span or link that begins inside takes precedence.
  if (end <= begin || !tex.trim() || tex.includes("`") || tex.includes("](")) return false;
  if (!silent) {
    const token = state.push("maths_inline", "", 0);
    token.content = tex;
    token.markup = opener;
    token.meta = { closer };
  }
  state.pos = end + closer.length;
  return true;
}

/**
 * Whether TeX contains a delimiter; the `\\[` that ends a row is not one.
 * @param {string} tex @param {string} delimiter
 */
function contains(tex, delimiter) {
  return tex.includes(delimiter) && tex.replaceAll("\\\\", "").includes(delimiter);
}

/** @param {StateBlock} state @param {number} line */
function lineText(state, line) {
  return state.src.slice(state.bMarks[line] + state.tShift[line], state.eMarks[line]).trimEnd();
}

/** @param {StateBlock} state @param {number} startLine @param {number} endLine @param {boolean} silent */
function blockRule(state, startLine, endLine, silent) {
  if (state.sCount[startLine] - state.blkIndent >= 4) return false;
  const first = lineText(state, startLine);
  const bare = BEGIN.exec(first);
  let opener, closer;
  if (first.startsWith("$$")) {
    opener = closer = "$$";
  } else if (first.startsWith("\\[")) {
    [opener, closer] = ["\\[", "\\]"];
  } else if (bare) {
    [opener, closer] = [bare[0], `\\end{${bare[1]}}`];
  } else {
    return false;
  }
  const pieces = [];
  let line = startLine;
  let text = first.slice(opener.length);
  while (!text.endsWith(closer)) {
    if (contains(text, opener) || contains(text, closer)) return false;
    pieces.push(text);
    line += 1;
    if (line >= endLine || line - startLine > limits.texLines || state.sCount[line] < state.blkIndent) return false;
    text = lineText(state, line);
    if (!text) return false;
  }
  const last = text.slice(0, text.length - closer.length);
  const tex = [...pieces, last].join("\n");
  if (!tex.trim() || contains(last, opener) || contains(last, closer)) return false;
  if (!silent) {
    const token = state.push("maths_block", "", 0);
    token.block = true;
    token.map = [startLine, line + 1];
    token.content = bare ? `${opener}${tex}${closer}` : tex;
    token.markup = bare ? "" : opener;
    token.meta = { closer: bare ? "" : closer };
  }
  state.line = line + 1;
  return true;
}

/**
 * Add rules to markdown-it for the tokens `maths_inline` and `maths_block`: TeX in `content`, opener in `markup`.
 * @param {MarkdownIt} md
 */
export function addMathsRules(md) {
  md.inline.ruler.before("escape", "maths_inline", inlineRule);
  md.block.ruler.before("fence", "maths_block", blockRule, { alt: ["paragraph", "reference", "blockquote", "list"] });
}
