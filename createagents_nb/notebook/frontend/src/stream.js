// An answer as it grows: blocks that are over are parsed once and stay, and only what may still change is parsed again.

import constants from "./constants.json";
import { completeBlocks, completeInline } from "./completion.js";
import { blocksOf, isTooLong, parse } from "./parser.js";
import { patchChildren } from "./patch.js";
import { TooLargeError, plainTree, treeOf } from "./tree.js";

/**
 * @import { Child } from "./tree.js"
 * @typedef {{ text: string, tree: Child[] }} Chunk
 */

const MAX_FORMULAS = constants.limits.formulas;
/** A late definition of a link may change what stands above it; beyond so much text, that waits for the end. */
const MAX_REFRESHED_CHARS = 20_000;

/**
 * Shows Markdown in an element, exactly as `render_markdown_html` would once it is `finish`ed.
 * Text comes clean: line ends are `\n`, invisible characters are gone.
 */
export class MarkdownStream {
  /**
   * @param {Element} element Empty; it is this object's from now on.
   * @param {{ remoteImages?: boolean, onSettled?: (block: Element) => void }} [options]
   */
  constructor(element, { remoteImages = false, onSettled = () => {} } = {}) {
    this.element = element;
    this.remoteImages = remoteImages;
    this.onSettled = onSettled;
    this.text = "";
    /** Where the text begins that may still change. */
    this.at = 0;
    /** @type {Chunk[]} */
    this.chunks = [];
    /** How many of the element's children are settled. */
    this.base = 1;
    /** What the other children show. @type {Child[]} */
    this.tail = [];
    /** @type {Record<string, { href: string, title: string }>} */
    this.references = Object.create(null);
    this.labels = 0;
    this.spent = { formulas: 0, size: 0 };
    this.isPlain = false;
    this.seenBreak = 0;
    element.append("\n");
  }

  /** @param {string} text */
  append(text) {
    this.text += text;
  }

  /** Show what there is, half-finished constructs completed. */
  render() {
    this.#show(false);
  }

  /** Show what there is, as it is. */
  finish() {
    this.#show(true);
    for (const child of [...this.element.children].slice(-this.tail.length)) this.onSettled(child);
  }

  /** @param {boolean} isEnd */
  #show(isEnd) {
    try {
      if (!this.isPlain && this.#showMarkdown(isEnd)) return;
    } catch (error) {
      if (!(error instanceof TooLargeError)) throw error;
    }
    this.#showPlain();
  }

  #showPlain() {
    const tree = plainTree(this.text);
    if (!this.isPlain) {
      this.isPlain = true;
      this.element.replaceChildren("\n");
      [this.base, this.tail, this.chunks] = [1, [], []];
    }
    patchChildren(this.element, this.tail, tree, this.base);
    this.tail = tree;
  }

  /** @param {boolean} isEnd @returns {boolean} Whether it can be shown as Markdown. */
  #showMarkdown(isEnd) {
    if (isTooLong(this.text)) return false;
    const settled = this.#settle();
    if (!settled) return false;
    const rest = this.text.slice(this.at);
    /** @type {import("./parser.js").Env} */
    const env = { references: Object.create(this.references) };
    if (!isEnd) env.end = completeInline;
    const tokens = parse(isEnd ? rest : completeBlocks(rest), env);
    if (!tokens) return false;
    const tail = treeOf(tokens, { ...this.#budget(), open: !isEnd });
    patchChildren(this.element, this.tail, [...settled, ...tail], this.base);
    const first = this.base;
    this.base += settled.length;
    this.tail = tail;
    for (let at = first; at < this.base; at += 1) {
      const block = this.element.childNodes[at];
      if (block instanceof Element) this.onSettled(block);
    }
    if (isEnd) Object.assign(this.references, env.references);
    this.#refresh(isEnd);
    return true;
  }

  #budget() {
    return {
      remoteImages: this.remoteImages,
      formulas: MAX_FORMULAS - this.spent.formulas,
      size: 2_000_000 + 10 * this.text.length - this.spent.size,
    };
  }

  /** The blocks that have come to their end since; null if they are no Markdown. @returns {Child[] | null} */
  #settle() {
    const lines = this.text.slice(this.at, this.text.lastIndexOf("\n") + 1);
    // A blank line must have come: everything else can still grow into what stands before it.
    const lastBreak = lastBlankLine(lines);
    if (lastBreak < 0 || this.at + lastBreak === this.seenBreak) return [];
    this.seenBreak = this.at + lastBreak;
    const end = startOfLastBlock(lines);
    if (!end) return [];
    const text = lines.slice(0, end);
    const tokens = parse(text, { references: this.references });
    if (!tokens) return null;
    const budget = this.#budget();
    const before = { ...budget };
    const tree = treeOf(tokens, budget);
    this.spent.formulas += before.formulas - budget.formulas;
    this.spent.size += before.size - budget.size;
    this.chunks.push({ text, tree });
    this.at += end;
    return tree;
  }

  /** Show earlier text again where links were defined only below it. @param {boolean} isEnd */
  #refresh(isEnd) {
    const labels = Object.keys(this.references).length;
    if (labels === this.labels) return;
    const affected = this.chunks.filter(({ text }) => text.includes("["));
    const chars = affected.reduce((sum, { text }) => sum + text.length, 0);
    if (!isEnd && chars > MAX_REFRESHED_CHARS) return;
    this.labels = labels;
    let base = 1;
    for (const chunk of this.chunks) {
      if (chunk.text.includes("[")) {
        const tokens = parse(chunk.text, { references: Object.create(this.references) }) ?? [];
        const tree = treeOf(tokens, { ...this.#budget(), formulas: MAX_FORMULAS, size: Infinity });
        patchChildren(this.element, chunk.tree, tree, base);
        chunk.tree = tree;
      }
      base += chunk.tree.length;
    }
  }
}

/** @param {string} lines @returns {number} Where the last blank line begins, or -1. */
function lastBlankLine(lines) {
  let end = lines.length - 1;
  while (end > 0) {
    const start = lines.lastIndexOf("\n", end - 1) + 1;
    if (!lines.slice(start, end).trim()) return start;
    end = start - 1;
  }
  return -1;
}

/**
 * Where the last block begins that a blank line separates from what stands before it; 0 if there is none.
 * @param {string} text Whole lines.
 */
function startOfLastBlock(text) {
  const lines = text.split("\n");
  const line = blocksOf(text).findLast((start) => start > 0 && !lines[start - 1].trim());
  return line ? lines.slice(0, line).join("\n").length + 1 : 0;
}
