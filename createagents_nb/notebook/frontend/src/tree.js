// Tokens to a tree of nodes: the same rules as in `render/html_writer.py`, without HTML in between.
// Tags and attributes are all written here; tokens contribute text only.

import constants from "./constants.json";
import { colored, languageOf } from "./color.js";
import { isSafeTex } from "./maths.js";
import { isSafeHref } from "./parser.js";

/**
 * @import Token from "markdown-it/lib/token.mjs"
 * @typedef {{ tag: string, attrs: Record<string, string>, children: Child[], tex?: string, skip?: number }} Node
 * `skip`: number of the element's first children that are settled and not in `children`.
 * @typedef {Node | string} Child
 * @typedef {{ remoteImages: boolean, formulas: number, size: number, open?: boolean }} Context
 * `formulas` and `size` are remaining budgets: of formulas, and of output in all. `open`: the last block may still grow.
 */

const { styles } = constants;
const INVISIBLE = new RegExp(constants.invisible, "gu");
const MATHS_CLASSES = "createagents-maths mathjax_process tex2jax_process";
/** Without slashes a browser resolves `https:x` as a path on the page's server. */
const REMOTE = /^https?:\/\/[^/\\?#]/i;
const RIGHT_TO_LEFT = new RegExp(constants.rightToLeft, "u");
const ALIGN = /^text-align:(left|right|center)$/;

/** @type {Record<string, [tag: string, after: string]>} */
const PAIRS = {
  blockquote: ["blockquote", "\n"],
  bullet_list: ["ul", "\n"],
  em: ["em", ""],
  s: ["s", ""],
  strong: ["strong", ""],
  tbody: ["tbody", "\n"],
  thead: ["thead", "\n"],
  tr: ["tr", "\n"],
};
const INLINE = new Set(["em", "s", "strong", "link"]);

export class TooLargeError extends Error {}

/** @param {string} text */
export function hideInvisible(text) {
  return text.replace(INVISIBLE, "").replace(/[\ud800-\udfff]/gu, "\ufffd");
}

/** @param {string} tag @param {Record<string, string>} [attrs] @param {Child[]} [children] @returns {Node} */
export function node(tag, attrs = {}, children = []) {
  return { tag, attrs, children };
}

class Writer {
  /** @param {Context} context */
  constructor(context) {
    this.context = context;
    /** @type {Node} */
    this.root = node("");
    this.stack = [this.root];
    /** @type {boolean[]} */
    this.links = [];
  }

  /** @param {Child} child */
  put(child) {
    const { children } = /** @type {Node} */ (this.stack.at(-1));
    if (typeof child !== "string") {
      this.spend(20 + Object.values(child.attrs).join().length);
      children.push(child);
    } else if (child) {
      this.spend(child.length);
      if (typeof children.at(-1) === "string") children[children.length - 1] += child;
      else children.push(child);
    }
  }

  /** @param {number} chars */
  spend(chars) {
    this.context.size -= chars;
    if (this.context.size < 0) throw new TooLargeError("a small text would become a huge page");
  }

  /** @param {string} tag @param {Record<string, string>} [attrs] */
  open(tag, attrs) {
    const opened = node(tag, attrs);
    this.put(opened);
    this.stack.push(opened);
  }

  /** @param {Token[]} tokens */
  write(tokens) {
    tokens.forEach((token, at) => {
      if (token.type === "inline") this.write(token.children ?? []);
      else if (token.hidden) return;
      else if (token.type === "paragraph_open") this.open("p", paragraph(tokens[at + 1].content));
      else this.writeToken(token, at === tokens.length - 1);
    });
  }

  /** @param {Token} token @param {boolean} isLast */
  writeToken(token, isLast) {
    const name = token.type.replace(/_(open|close)$/, "");
    if (token.nesting < 0) {
      if (name !== "link" || this.links.pop()) this.stack.pop();
      if (name === "table") this.stack.pop();
      if (!INLINE.has(name)) this.put("\n");
    } else if (token.nesting > 0) {
      this.openBlock(name, token);
    } else {
      this.leaf(token, isLast);
    }
  }

  /** @param {string} name @param {Token} token */
  openBlock(name, token) {
    if (name in PAIRS) {
      this.open(PAIRS[name][0]);
      this.put(PAIRS[name][1]);
    } else if (name === "table") {
      this.open("div", { style: styles.WIDE });
      this.open("table", { border: "1", cellpadding: "4", style: styles.WIDE_TABLE });
      this.put("\n");
    } else if (name === "heading") {
      this.open(token.tag);
    } else if (name === "link") {
      const href = token.attrGet("href") ?? "";
      this.links.push(isSafeHref(href));
      if (this.links.at(-1)) this.open("a", anchor(href));
    } else if (name === "list_item") {
      const isTask = token.meta && "checked" in token.meta;
      this.open("li", isTask ? { class: "createagents-task", style: styles.TASK } : {});
      if (isTask) this.put(token.meta.checked ? "☑ " : "☐ ");
    } else if (name === "ordered_list") {
      const start = Number(token.attrGet("start") ?? 1);
      this.open("ol", start === 1 ? {} : { start: String(start) });
      this.put("\n");
    } else if (name === "td" || name === "th") {
      const align = ALIGN.exec(token.attrGet("style") ?? "");
      this.open(name, { style: align ? align[0] : "text-align:start" });
    }
  }

  /** @param {Token} token @param {boolean} isLast */
  leaf(token, isLast) {
    switch (token.type) {
      case "softbreak":
        return this.put("\n");
      case "hardbreak":
        this.put(node("br"));
        return this.put("\n");
      case "hr":
        this.put(node("hr"));
        return this.put("\n");
      case "code_inline":
        return this.put(node("code", {}, [token.content].filter(Boolean)));
      case "code_block":
      case "fence":
        return this.code(token.content, languageOf(token.info), isLast && Boolean(this.context.open));
      case "image":
        return this.image(token);
      case "maths_inline":
      case "maths_block":
        return this.maths(token);
    }
    // The parser decodes character references, which may produce invisible characters again.
    return this.put(hideInvisible(token.content));
  }

  /** @param {Token} token */
  image(token) {
    const words = (token.children ?? []).filter((child) => child.type === "text" || child.type === "code_inline");
    const text = hideInvisible(words.map((child) => child.content).join("")).trim() || "image";
    const source = token.attrGet("src") ?? "";
    const address = /^https?:/i.test(source) ? source : "";
    if (this.context.remoteImages && REMOTE.test(address) && isSafeHref(address)) {
      return this.put(
        node("img", {
          src: address,
          alt: text,
          class: "createagents-image",
          loading: "lazy",
          referrerpolicy: "no-referrer",
          style: styles.IMAGE,
        }),
      );
    }
    return this.put(this.links.length || !address ? text : node("a", anchor(address), [text]));
  }

  /** @param {string} code @param {string} language @param {boolean} grows */
  code(code, language, grows) {
    const attrs = { ...(language ? { class: `language-${language}` } : {}), style: styles.CODE };
    this.spend(code.length);
    const inner = node("code", attrs, colored(code, language, grows));
    const pre = node("pre", { dir: "ltr", style: styles.CODE_PRE }, [inner]);
    this.put(node("div", { class: "highlight", style: styles.CODE_BOX }, [pre]));
    this.put("\n");
  }

  /** @param {Token} token */
  maths(token) {
    const isInline = token.type === "maths_inline";
    const source = `${token.markup}${token.content}${token.meta.closer}`;
    this.context.formulas -= 1;
    if (!isSafeTex(token.content) || this.context.formulas < 0) {
      const code = node("code", {}, [source]);
      this.put(isInline ? code : node("pre", { dir: "ltr" }, [code]));
    } else {
      const delimiter = token.markup === "$" || token.markup === "\\(" ? "$" : "$$";
      const tex = token.content.trim();
      const style = /** @type {Record<string, string>} */ (isInline ? {} : { style: styles.FORMULA });
      const attrs = { class: MATHS_CLASSES, dir: "ltr", ...style };
      this.put({ tag: isInline ? "span" : "div", attrs, children: [`${delimiter}${tex}${delimiter}`], tex });
    }
    if (!isInline) this.put("\n");
  }
}

/** @param {Child} child @returns {number} Its cost in a writer's budget. */
export function sizeOf(child) {
  if (typeof child === "string") return child.length;
  return child.children.reduce((sum, each) => sum + sizeOf(each), 20 + Object.values(child.attrs).join().length);
}

/** @param {string} text Attributes of its paragraph, which may run from right to left. @returns {Record<string, string>} */
function paragraph(text) {
  return RIGHT_TO_LEFT.test(text) ? { dir: "auto", style: styles.PARAGRAPH } : {};
}

/** @param {string} href */
function anchor(href) {
  return { href, target: "_blank", rel: "noopener noreferrer" };
}

/**
 * The tree of tokens; throws `TooLargeError` when the context's size budget is exhausted.
 * @param {Token[]} tokens @param {Context} context @returns {Child[]}
 */
export function treeOf(tokens, context) {
  const writer = new Writer(context);
  writer.write(tokens);
  return writer.root.children;
}

/**
 * The tree of text that is shown as it is, without Markdown.
 * @param {string} text @returns {Child[]}
 */
export function plainTree(text) {
  // HTML parsers drop a newline at the start of a `pre`, so the static output has none.
  const shown = text.replace(/^\n/, "");
  return [node("pre", { dir: "auto", style: styles.PLAIN_PRE }, shown ? [shown] : []), "\n"];
}
