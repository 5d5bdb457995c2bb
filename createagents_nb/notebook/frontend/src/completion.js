// Constructs that have only begun: how they are shown until the rest arrives. Nothing of this stays in the end.

import { isSafeTex } from "./maths.js";
import { canSet } from "./typeset.js";

/** How often a formula that has begun is cut back until it can be set. */
const MAX_TRIES = 12;

/** @typedef {{ mark: string, at: number, end: number }} Opening A delimiter, and where the run it is of stands. */

/** A last line that may still become a list, a heading, a fence, a rule or the rule of a table. */
const BEGINNING = new RegExp(
  "^[ \\t>]*(?:(?:[-+*]|\\d{1,9}[.)])[ \\t]+)*" +
    "(?:[-+*_=]+|#{1,6}|~+|`+|\\d{1,9}[.)]?|(?:[-+*]|\\d{1,9}[.)])[ \\t]+\\[[ xX]?\\]?|\\[[ xX]?\\]?|\\|[\\s:|-]*|!?\\[|\\$+|\\\\)?" +
    "[ \\t]*$",
);
const TABLE_RULE = /^ {0,3}\|?[ \t:|-]*$/;

/**
 * Markdown whose end may be half a block: a beginning that is not clear yet is held back, half a table is made one.
 * @param {string} text
 */
export function completeBlocks(text) {
  const last = text.lastIndexOf("\n") + 1;
  const clear = BEGINNING.test(text.slice(last)) ? text.slice(0, last) : text;
  return completeTable(clear);
}

/**
 * The head of a table is shown as one before its rule has come.
 * @param {string} text
 */
function completeTable(text) {
  const lines = text.replace(/\n$/, "").split("\n");
  let head = lines.length - 1;
  if (head > 0 && TABLE_RULE.test(lines[head]) && lines[head].includes("-")) head -= 1;
  if (!/^ {0,3}\|.*[^\s|]/.test(lines[head]) || (head > 0 && /^ {0,3}\|/.test(lines[head - 1]))) return text;
  const row = lines[head].trim().replace(/\\\|/g, "").replace(/^\||\|$/g, "");
  const rule = `|${"---|".repeat(row.split("|").length)}`;
  return [...lines.slice(0, head), lines[head], rule].join("\n");
}

/**
 * Inline Markdown whose end may be half a construct, with what is open closed and what has only begun left out.
 * @param {string} content
 */
export function completeInline(content) {
  const environment = /^\\begin\{([a-z]+\*?)\}/.exec(content)?.[1];
  if (environment && !content.includes(`\\end{${environment}}`)) {
    return formula("$$", content, `\\end{${environment}}`, "$$");
  }
  const text = content.replace(/(?<!\\)(?:\\\\)*\\$/, (slashes) => slashes.slice(1));
  /** Delimiters that may still be closed, outermost first. @type {Opening[]} */
  const open = [];
  /** Where each `[` that has no `]` yet stands. @type {number[]} */
  const brackets = [];
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at];
    if (char === "\\") {
      const closer = { "(": "\\)", "[": "\\]" }[text[at + 1]];
      const end = closer ? text.indexOf(closer, at + 2) : at + 1;
      if (end < 0) return closed(text.slice(0, at), open) + formula(text.slice(at, at + 2), text.slice(at + 2), "", closer ?? "");
      at = closer ? end + 1 : end;
    } else if (char === "`") {
      const run = /^`+/.exec(text.slice(at))?.[0] ?? "";
      const end = endOfRun(text, at + run.length, run);
      if (end < 0) {
        const inside = text.slice(at + run.length).replace(/`+$/, "");
        const code = inside.trim() ? run + inside + run : "";
        return closed(withoutOpenLink(text.slice(0, at), brackets), open, code);
      }
      at = end - 1;
    } else if (char === "$") {
      const mark = text[at + 1] === "$" ? "$$" : "$";
      const end = text.indexOf(mark, at + mark.length);
      if (end < 0) {
        const inside = text.slice(at + mark.length);
        if (mark === "$" && !/[\\^_{]/.test(inside)) continue; // a price, as likely as not
        return closed(text.slice(0, at), open) + formula(mark, inside, "", mark);
      }
      if (mark === "$$" || !/\s|\d/.test(text[at + 1] ?? " ")) at = end + mark.length - 1;
    } else if (char === "[") {
      brackets.push(at);
    } else if (char === "]" && brackets.length) {
      const from = /** @type {number} */ (brackets.pop());
      const start = text[from - 1] === "!" ? from - 1 : from;
      const after = text.slice(at + 1);
      if (after === "" || /^\([^()\s]*(?:\([^()\s]*\)[^()\s]*)*(?:\s+("[^"]*"?|'[^']*'?)?\s*)?$/.test(after)) {
        return closed(text.slice(0, start) + text.slice(from + 1, at), open);
      }
      const address = /^\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*\)/.exec(after);
      at += address ? address[0].length : 0;
    } else if (char === "<" && /^<(?:h|ht|htt|https?|https?:[^\s>]*|mailto:[^\s>]*)$/i.test(text.slice(at))) {
      return closed(text.slice(0, at) + text.slice(at + 1), open);
    } else if (char === "*" || char === "_" || text.startsWith("~~", at)) {
      at += delimiters(text, at, open) - 1;
    }
  }
  return closed(withoutOpenLink(text, brackets), open);
}

/**
 * Take a run of delimiters: it closes what is open, or opens.
 * @param {string} text @param {number} at @param {Opening[]} open @returns {number} Its length.
 */
function delimiters(text, at, open) {
  const char = text[at];
  const run = /^(?:\*+|_+|~+)/.exec(text.slice(at))?.[0] ?? char;
  const before = text[at - 1] ?? " ";
  const after = text[at + run.length] ?? " ";
  const isInWord = char === "_" && /\w/.test(before) && /\w/.test(after);
  let left = run.length;
  if (!/\s/.test(before) && !isInWord) {
    while (left > 0 && open.at(-1)?.mark[0] === char) {
      const mark = /** @type {string} */ (open.at(-1)?.mark);
      if (mark.length > left) break;
      open.pop();
      left -= mark.length;
    }
  }
  const end = at + run.length;
  const isLast = end === text.length && left === run.length && /\s/.test(before); // it will open something
  if (left > 0 && (isLast || !/\s/.test(after)) && !isInWord) {
    if (char === "~") {
      if (left === 2) open.push({ mark: "~~", at, end });
    } else {
      if (left % 2) open.push({ mark: char, at, end });
      for (let pair = 0; pair < Math.floor(left / 2); pair += 1) open.push({ mark: char + char, at, end });
    }
  }
  return run.length;
}

/**
 * Text with what is open closed, before the space at its end.
 * @param {string} text @param {Opening[]} open @param {string} [code] A code span at its end.
 */
function closed(text, open, code = "") {
  const shown = (text + code).trimEnd();
  const space = (text + code).slice(shown.length);
  let body = shown;
  for (const { mark, at, end } of [...open].reverse()) {
    if (end < shown.length) body += mark;
    else body = body.slice(0, at); // nothing has come after it
  }
  return body + space;
}

/** @param {string} text @param {number[]} brackets */
function withoutOpenLink(text, brackets) {
  const from = brackets.at(-1);
  if (from === undefined) return text;
  const start = text[from - 1] === "!" ? from - 1 : from;
  return text.slice(0, start) + text.slice(from + 1);
}

/**
 * As much of a formula that has begun as can be set, closed; nothing where that is nothing.
 * @param {string} opener @param {string} source @param {string} end What its environment needs. @param {string} closer
 */
function formula(opener, source, end, closer) {
  let tex = source.trimEnd();
  for (let tries = 0; tries < MAX_TRIES && tex.trim(); tries += 1) {
    const braces = (tex.match(/(?<!\\)\{/g) ?? []).length - (tex.match(/(?<!\\)\}/g) ?? []).length;
    const whole = tex + "}".repeat(Math.max(0, braces)) + end;
    if (isSafeTex(whole) && canSet(whole)) return opener + whole + closer;
    tex = tex.slice(0, Math.max(0, tex.search(/(?:\\[A-Za-z]*|[\^_{&]|[^\\^_{&\s]+|\s+)$/))).trimEnd();
  }
  return "";
}

/** @param {string} text @param {number} from @param {string} run @returns {number} The end of an equal run of backticks. */
function endOfRun(text, from, run) {
  for (const found of text.slice(from).matchAll(/`+/g)) {
    if (found[0].length === run.length) return from + found.index + run.length;
  }
  return -1;
}
