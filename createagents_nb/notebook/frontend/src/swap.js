// When a turn has ended, the kernel puts the saved output where the view was. It looks the same; what the reader had
// there, the focus and what was folded out, goes over to it, and it gets the copy buttons while the page lives.

import { addCopyCodes, copyAnswerButton, keepLetters } from "./buttons.js";

const WAIT_MS = 5_000;
const STATUS = ".createagents-status";
const FOCUSABLE = ["summary", ".createagents-copy-code"];

/** @type {WeakSet<Element>} */
const taken = new WeakSet();

/** @typedef {{ area: Element, index: number }} Place */

/** @param {Element} root @returns {Place | null} Where a notebook shows the view, so that its successor is found. */
export function placeOf(root) {
  const child = root.closest(".jp-OutputArea-child");
  const area = child?.parentElement;
  return child && area ? { area, index: [...area.children].indexOf(child) } : null;
}

/** What the reader has of a turn in the page, to be given to its successor. */
export class Possessions {
  /**
   * @param {Element} turn @param {Element | null} focused What in it has the focus.
   * @param {() => string} text The answer, as Markdown.
   */
  constructor(turn, focused, text) {
    this.text = text;
    this.opened = [...turn.querySelectorAll("details")].map((details) => details.open);
    /** What the kernel does not keep, and the reader may have while the page lives. */
    this.content = [...turn.childNodes].filter((node) => !(node instanceof Element && node.matches(STATUS)));
    /** What has the focus: a selector and its number among those. @type {[string, number] | null} */
    this.focus = null;
    if (focused) {
      const selector = FOCUSABLE.find((one) => focused.matches(one)) ?? ".createagents-copy-answer";
      this.focus = [selector, Math.max(0, [...turn.querySelectorAll(selector)].indexOf(focused))];
    }
  }

  /** @param {Element} turn */
  giveTo(turn) {
    taken.add(turn);
    const note = turn.querySelector(".createagents-not-kept");
    const status = turn.querySelector(STATUS);
    if (note && status) {
      note.textContent = "Not saved with the notebook: the recorder keeps no content.";
      turn.replaceChildren(...this.content, note, status);
    }
    addCopyCodes(turn);
    const copy = copyAnswerButton(this.text);
    status?.append(copy);
    if (turn instanceof HTMLElement) keepLetters(turn);
    turn.querySelectorAll("details").forEach((details, at) => (details.open = this.opened[at] ?? false));
    if (!this.focus) return;
    const [selector, number] = this.focus;
    const target = turn.querySelectorAll(selector)[number] ?? copy;
    if (target instanceof HTMLElement) target.focus({ preventScroll: true });
  }
}

/**
 * Wait for the successor of a view that stood at a place.
 * @param {Place} place @param {Possessions} possessions
 */
export function handOver({ area, index }, possessions) {
  function found() {
    const child = area.children[index];
    const turn = child?.querySelector(".createagents-turn");
    if (!turn || turn.closest(".createagents-live") || taken.has(turn)) return false;
    possessions.giveTo(turn);
    return true;
  }
  if (found()) return;
  const observer = new MutationObserver(() => {
    if (found()) observer.disconnect();
  });
  observer.observe(area, { childList: true, subtree: true });
  setTimeout(() => observer.disconnect(), WAIT_MS);
}

/** Knows what in an element has the focus, also when the page has taken the element away, which tells nobody. */
export class FocusKeeper {
  /** @param {Element} root */
  constructor(root) {
    this.root = root;
    this.page = root.ownerDocument;
    /** @type {Element | null} */
    this.last = null;
    this.page.addEventListener("focusin", this);
    this.page.addEventListener("focusout", this);
  }

  /** @param {Event} event */
  handleEvent({ type, target }) {
    const isOurs = target instanceof Element && this.root.contains(target);
    if (type === "focusin") this.last = isOurs ? target : null;
    // A click beside it takes the focus from an element that stays.
    else if (isOurs) queueMicrotask(() => target.isConnected && this.page.activeElement !== target && this.#lose(target));
  }

  /** @param {Element} target */
  #lose(target) {
    if (this.last === target) this.last = null;
  }

  /** What has the focus, or had it until the page took the element away and nothing else has it since. */
  get focused() {
    const { activeElement, body } = this.page;
    if (this.root.isConnected) return this.root.contains(activeElement) ? activeElement : null;
    return activeElement === body ? this.last : null;
  }

  /** Give the focus to an element, also to one in a root that is not in the page any more. @param {HTMLElement} heir */
  moveTo(heir) {
    heir.focus({ preventScroll: true });
    this.last = heir;
  }

  release() {
    this.page.removeEventListener("focusin", this);
    this.page.removeEventListener("focusout", this);
  }
}
