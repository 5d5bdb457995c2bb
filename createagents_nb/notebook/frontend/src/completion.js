// Incomplete constructs at the end of a growing answer are completed for display; the final rendering is not affected.

import { isSafeTex } from "./maths.js";
import { canSet } from "./typeset.js";

/** Limit for shortening an incomplete formula until it can be typeset. */
const MAX_TRIES = 12;

/** @typedef {{ mark: string, at: number, end: number }} Opening A delimiter, and the bounds of its run. */

/** A last line that may still become a list, heading, fence, thematic break or table delimiter row. */
const BEGINNING = new RegExp(
  "^[ \\t>]*(?:(?:[-+*]|\\d{1,9}[.)])[ \\t]+)*" +
    "(?:[-+*_=]+|#{1,6}|~+|`+|\\d{1,9}[.)]?|(?:[-+*]|\\d{1,9}[.)])[ \\t]+\\[[ xX]?\\]?|\\[[ xX]?\\]?|\\|[\\s:|-]*|!?\\[|\\$+|\\\\)?" +
    "[ \\t]*$",
);
const TABLE_RULE = /^ {0,3}\|?[ \t:|-]*$/;

/**
 * Complete the last block of Markdown: an ambiguous beginning is held back, an incomplete table is completed.
 * @param {string} text
 */
export function completeBlocks(text) {
  const last = text.lastIndexOf("\n") + 1;
  const clear = BEGINNING.test(text.slice(last)) ? text.slice(0, last) : text;
  return completeTable(clear);
}

/**
 * Add the delimiter row to a table that has only a header row so far.
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
 * Complete inline Markdown: open constructs are closed, and openers without content are left out.
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
  /** Positions of `[` without a matching `]`. @type {number[]} */
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
        if (mark === "$" && !/[\\^_{]/.test(inside)) continue; // more likely a price
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
 * Process a run of delimiters, which closes open ones or opens new ones.
 * @param {string} text @param {number} at @param {Opening[]} open @returns {number} Its length.
 */
function delimiters(text, at, open) {
  const char = text[at];
  const run = /^(?:\*+|_+|~+)/.exec(text.slice(at))?.[0] ?? char;
  const before = text[at - 1] ?? " ";
  const after = text[at + run.length] ?? " ";
  const isInWord = char === "_" && /\w/.test(before) && /\w/.test(after);
  let remaining = run.length;
  if (!/\s/.test(before) && !isInWord) {
    while (remaining > 0 && open.at(-1)?.mark[0] === char) {
      const mark = /** @type {string} */ (open.at(-1)?.mark);
      if (mark.length > remaining) break;
      open.pop();
      remaining -= mark.length;
    }
  }
  const end = at + run.length;
  const isLast = end === text.length && remaining === run.length && /\s/.test(before); // it can only open
  if (remaining > 0 && (isLast || !/\s/.test(after)) && !isInWord) {
    if (char === "~") {
      if (remaining === 2) open.push({ mark: "~~", at, end });
    } else {
      if (remaining % 2) open.push({ mark: char, at, end });
      for (let pair = 0; pair < Math.floor(remaining / 2); pair += 1) open.push({ mark: char + char, at, end });
    }
  }
  return run.length;
}

/**
 * Close the open delimiters, before any trailing space.
 * @param {string} text @param {Opening[]} open @param {string} [code] A code span at its end.
 */
function closed(text, open, code = "") {
  const shown = (text + code).trimEnd();
  const space = (text + code).slice(shown.length);
  let body = shown;
  for (const { mark, at, end } of [...open].reverse()) {
    if (end < shown.length) body += mark;
    else body = body.slice(0, at); // nothing follows it yet
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
 * The longest part of an incomplete formula that can be typeset, closed; or "".
 * @param {string} opener @param {string} source @param {string} end Closes its environment. @param {string} closer
 */
function formula(opener, source, end, closer) {
  let tex = source.trimEnd();
  for (let tries = 0; tries < MAX_TRIES && tex.trim(); tries += 1) {
    const braces = (tex.match(/(?<!\\)\{/g) ?? []).length - (tex.match(/(?<!\\)\}/g) ?? []).length;
    const candidate = tex + "}".repeat(Math.max(0, braces)) + end;
    if (isSafeTex(candidate) && canSet(candidate)) return opener + candidate + closer;
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
