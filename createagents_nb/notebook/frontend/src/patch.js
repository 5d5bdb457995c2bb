// Applies a tree to the page: unchanged elements are kept, and text that has grown is appended to.

import { typeset } from "./typeset.js";

/** @import { Child, Node as TreeNode } from "./tree.js" */

/**
 * Change the children of an element, starting at index `base`, from `before` to `after`.
 * @param {Element} parent @param {Child[]} before @param {Child[]} after @param {number} [base]
 */
export function patchChildren(parent, before, after, base = 0) {
  const common = Math.min(before.length, after.length);
  /** @type {ChildNode | null} */
  let dom = parent.childNodes[base] ?? null;
  for (let at = 0; at < common; at += 1) {
    const now = /** @type {ChildNode} */ (dom);
    dom = now.nextSibling;
    patchOne(now, before[at], after[at]);
  }
  for (let at = common; at < before.length; at += 1) {
    const gone = /** @type {ChildNode} */ (dom);
    dom = gone.nextSibling;
    gone.remove();
  }
  for (const child of after.slice(common)) parent.insertBefore(create(child), dom);
}

/** @param {ChildNode} dom @param {Child} before @param {Child} after */
function patchOne(dom, before, after) {
  if (before === after) return;
  if (typeof before === "string" && typeof after === "string") {
    const text = /** @type {Text} */ (dom);
    if (after.startsWith(before)) text.appendData(after.slice(before.length));
    else text.data = after;
  } else if (typeof before !== "string" && typeof after !== "string" && isAlike(before, after)) {
    // A formula has been typeset: its children no longer match its text.
    if (after.tex === undefined) patchChildren(/** @type {Element} */ (dom), before.children, after.children, after.skip);
  } else {
    dom.replaceWith(create(after));
  }
}

/** @param {TreeNode} before @param {TreeNode} after */
function isAlike(before, after) {
  if (before.tag !== after.tag || before.tex !== after.tex || before.skip !== after.skip) return false;
  const names = Object.keys(after.attrs);
  return (
    names.length === Object.keys(before.attrs).length && names.every((name) => before.attrs[name] === after.attrs[name])
  );
}

/** @param {Child} child @returns {Element | Text} */
export function create(child) {
  if (typeof child === "string") return document.createTextNode(child);
  const element = document.createElement(child.tag);
  for (const [name, value] of Object.entries(child.attrs)) element.setAttribute(name, value);
  element.append(...child.children.map(create));
  if (child.tex !== undefined) typeset(element, child.tex);
  return element;
}
