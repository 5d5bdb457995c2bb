// A growing answer: finished blocks are parsed once and kept; only text that may still change is parsed again.

import { completeBlocks, completeInline } from "./completion.js";
import constants from "./constants.json";
import { blocksOf, isTooLong, loosen, parse } from "./parser.js";
import { patchChildren } from "./patch.js";
import { TooLargeError, plainTree, sizeOf, treeOf } from "./tree.js";

/**
 * @import { Env } from "./parser.js"
 * @import { Child, Node as TreeNode } from "./tree.js"
 * @typedef {{ text: string, tree: Child[] }} Chunk Finished blocks.
 * @typedef {{ from: number, head: string, attrs: Record<string, string>, settled: number, isLoose: boolean }} Opened
 * A long list or table that still grows. `from`: its start; `head`: text to put before its next part so that the parser
 * recognizes it; `settled`: the number of settled children of its element.
 */

/** Limit for re-rendering earlier text when a link is defined below it; beyond it, that waits for the end. */
const MAX_REFRESHED_CHARS = 20_000;
/** A list or table longer than this many characters is settled part by part. */
const LONG = 3_000;
/** An open formula may still extend over what follows, up to the next blank line. */
const BEGINS_FORMULA = /^ {0,3}(?:\$\$|\\\[|\\begin\{)/;
const BLANK_LINE = /\n[ \t]*\n/;

/**
 * Shows Markdown in an element; once `finish`ed, exactly as `render_markdown_html` would.
 * The text must be clean: `\n` line ends, no invisible characters.
 */
export class MarkdownStream {
  /**
   * @param {Element} element Empty; owned by this object from now on.
   * @param {{ remoteImages?: boolean, onSettled?: (block: Element) => void }} [options]
   */
  constructor(element, { remoteImages = false, onSettled = () => {} } = {}) {
    this.element = element;
    this.remoteImages = remoteImages;
    this.onSettled = onSettled;
    this.text = "";
    /** Start of the text that may still change. */
    this.at = 0;
    /** @type {Opened | null} */
    this.opened = null;
    /** @type {Chunk[]} */
    this.chunks = [];
    /** Number of settled children of the element. */
    this.base = 1;
    /** The tree of the other children. @type {Child[]} */
    this.tail = [];
    /** @type {Record<string, { href: string, title: string }>} */
    this.references = Object.create(null);
    this.labels = 0;
    this.spent = { formulas: 0, size: 0 };
    this.isPlain = false;
    this.seenBreak = -1;
    this.seenLength = 0;
    element.append("\n");
  }

  /** @param {string} text */
  append(text) {
    this.text += text;
  }

  /** Render the text so far, with incomplete constructs completed. */
  render() {
    this.#show(false);
  }

  /** Render the whole text as it is. */
  finish() {
    this.#show(true);
    this.#notifySettled(this.base, this.element.childNodes.length);
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

  /** @param {boolean} isEnd @returns {boolean} False if it cannot be rendered as Markdown. */
  #showMarkdown(isEnd) {
    if (isTooLong(this.text)) return false;
    this.#reopenLooseList();
    const settled = this.#settle();
    if (!settled) return false;
    const rest = this.text.slice(this.at);
    /** @type {Env} */
    const env = { references: Object.create(this.references) };
    if (!isEnd) env.end = completeInline;
    const tail = this.#treeOf(isEnd ? rest : completeBlocks(rest), env, { ...this.#budget(), open: !isEnd });
    if (!tail) return false;
    patchChildren(this.element, this.tail, [...settled, ...tail], this.base);
    this.tail = tail;
    this.base += settled.length;
    this.#notifySettled(this.base - settled.length, this.base);
    if (isEnd) Object.assign(this.references, env.references);
    else this.#settleParts();
    this.#refresh(isEnd);
    return true;
  }

  /** Report children of the element that will not change any more. @param {number} from @param {number} to */
  #notifySettled(from, to) {
    for (let at = from; at < to; at += 1) {
      const block = this.element.childNodes[at];
      if (block instanceof Element) this.onSettled(block);
    }
  }

  #budget() {
    return {
      remoteImages: this.remoteImages,
      formulas: constants.limits.formulas - this.spent.formulas,
      size: 2_000_000 + 10 * this.text.length - this.spent.size,
    };
  }

  /**
   * The tree of the text at `at`, or null if it cannot be rendered as Markdown.
   * @param {string} text @param {Env} env @param {import("./tree.js").Context} context
   * @returns {Child[] | null}
   */
  #treeOf(text, env, context) {
    const { opened } = this;
    const tokens = parse((opened?.head ?? "") + text, env);
    if (!tokens) return null;
    if (opened?.isLoose) loosen(tokens);
    const tree = treeOf(tokens, context);
    if (opened) {
      const first = /** @type {TreeNode} */ (tree[0]);
      first.attrs = opened.attrs;
      holderOf(first).skip = opened.settled;
    }
    return tree;
  }

  /** Settle newly finished blocks; null if they cannot be rendered as Markdown. @returns {Child[] | null} */
  #settle() {
    const lines = this.text.slice(this.at, this.text.lastIndexOf("\n") + 1);
    const lastBreak = this.at + lastBlankLine(lines);
    const hasGrown = lines.length > LONG && this.at + lines.length > this.seenLength;
    if ((lastBreak <= this.seenBreak || lastBreak < this.at) && !hasGrown) return [];
    this.seenBreak = lastBreak;
    this.seenLength = this.at + 1.25 * lines.length;
    const head = this.opened?.head ?? "";
    const end = startOfLastBlock(head + lines) - head.length;
    if (end <= 0) return [];
    const text = lines.slice(0, end);
    const budget = this.#budget();
    const before = { ...budget };
    const tree = this.#treeOf(text, { references: this.references }, budget);
    if (!tree) return null;
    this.spent.formulas += before.formulas - budget.formulas;
    this.spent.size += before.size - budget.size;
    this.chunks.push({ text: this.text.slice(this.opened?.from ?? this.at, this.at + end), tree });
    this.at += end;
    this.opened = null;
    return tree;
  }

  /** If only a long list or table may still change, settle all of its parts but the last two. */
  #settleParts() {
    const lines = this.text.slice(this.at, this.text.lastIndexOf("\n") + 1);
    if (lines.length < LONG) return;
    const { opened } = this;
    const head = opened?.head ?? "";
    const source = head + lines;
    const { blocks, parts, isLoose } = blocksOf(source);
    const isTable = blocks[0]?.type === "table_open";
    const isList = /^(?:bullet|ordered)_list_open$/.test(blocks[0]?.type ?? "");
    if (blocks.length !== 1 || blocks[0].start !== 0 || parts.length < 4 || !(isTable || isList)) return;
    // A list is known to be loose once it is; it is known to be tight only until a blank line appears.
    const loose = isList && (isLoose || Boolean(opened?.isLoose));
    if (isList && !loose && BLANK_LINE.test(lines)) return;
    const first = /** @type {TreeNode} */ (this.tail[0]);
    const holder = holderOf(first);
    const count = parts.length - 2;
    const settled = holder.children.splice(0, 2 * count);
    this.spent.size += settled.reduce((sum, child) => sum + sizeOf(child), 0);
    holder.skip = (opened?.settled ?? 0) + settled.length;
    this.opened = {
      from: opened?.from ?? this.at,
      head: isTable ? head || firstLines(source, 2) : "",
      attrs: first.attrs,
      settled: holder.skip,
      isLoose: loose,
    };
    this.at += firstLines(source, parts[count]).length - head.length;
  }

  /** A blank line may turn a tight list into a loose one: then the whole list is rendered again. */
  #reopenLooseList() {
    const { opened } = this;
    if (!opened || opened.head || opened.isLoose || !BLANK_LINE.test(this.text.slice(this.at))) return;
    this.at = opened.from;
    this.opened = null;
  }

  /** Re-render earlier text whose links are defined below it. @param {boolean} isEnd */
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
        const tree = treeOf(tokens, { ...this.#budget(), formulas: constants.limits.formulas, size: Infinity });
        patchChildren(this.element, chunk.tree, tree, base);
        chunk.tree = tree;
      }
      base += chunk.tree.length;
    }
  }
}

/** @param {TreeNode} block @returns {TreeNode} The parent of the items or rows. */
function holderOf(block) {
  const table = childOf(block, "table");
  return (table && childOf(table, "tbody")) ?? block;
}

/** @param {TreeNode} block @param {string} tag @returns {TreeNode | undefined} */
function childOf(block, tag) {
  return block.children.filter((child) => typeof child !== "string").find((child) => child.tag === tag);
}

/** @param {string} text @param {number} lines @returns {string} Its first lines. */
function firstLines(text, lines) {
  let end = 0;
  for (let line = 0; line < lines; line += 1) end = text.indexOf("\n", end) + 1;
  return text.slice(0, end);
}

/** @param {string} lines @returns {number} Start of the last blank line, or -1. */
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
 * Start of the last block, if the text before it cannot change any more; else 0.
 * @param {string} text Whole lines.
 */
function startOfLastBlock(text) {
  const start = blocksOf(text).blocks.at(-1)?.start;
  if (!start) return 0;
  const lines = text.split("\n");
  for (let line = start - 1; line >= 0 && lines[line].trim(); line -= 1) {
    if (BEGINS_FORMULA.test(lines[line])) return 0;
  }
  return firstLines(text, start).length;
}
