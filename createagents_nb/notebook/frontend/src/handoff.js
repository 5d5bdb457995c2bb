// At the end of a turn the saved output replaces the view and looks the same. The reader's state (focus, open details)
// is transferred to it, and it gets copy buttons for as long as the page lives.

import { addCopyCodes, copyAnswerButton, suppressShortcuts } from "./buttons.js";

const WAIT_MS = 5_000;
const STATUS = ".createagents-status";
const FOCUSABLE = ["summary", ".createagents-copy-code"];

/** Saved turns that have taken over from a view. @type {WeakSet<Element>} */
const claimed = new WeakSet();

/** @typedef {{ area: Element, index: number }} Place */

/** @param {Element} root @returns {Place | null} The position of a view in its output area, where its replacement will be. */
export function placeOf(root) {
  const child = root.closest(".jp-OutputArea-child");
  const area = child?.parentElement;
  return child && area ? { area, index: [...area.children].indexOf(child) } : null;
}

/** The reader's state in a view of a turn, to be applied to the saved turn. */
export class ViewState {
  /**
   * @param {Element} turn @param {Element | null} focused The focused element in it.
   * @param {() => string} text The answer, as Markdown.
   */
  constructor(turn, focused, text) {
    this.text = text;
    this.opened = [...turn.querySelectorAll("details")].map((details) => details.open);
    /** The content, for a turn whose content is not saved: the reader keeps it while the page lives. */
    this.content = [...turn.childNodes].filter((node) => !(node instanceof Element && node.matches(STATUS)));
    /** The focus: a selector and an index among its matches. @type {[string, number] | null} */
    this.focus = null;
    if (focused) {
      const selector = FOCUSABLE.find((candidate) => focused.matches(candidate)) ?? ".createagents-copy-answer";
      this.focus = [selector, Math.max(0, [...turn.querySelectorAll(selector)].indexOf(focused))];
    }
  }

  /** @param {Element} turn */
  applyTo(turn) {
    claimed.add(turn);
    const note = turn.querySelector(".createagents-not-kept");
    const status = turn.querySelector(STATUS);
    if (note && status) {
      note.textContent = "Not saved with the notebook: the recorder keeps no content.";
      turn.replaceChildren(...this.content, note, status);
    }
    addCopyCodes(turn);
    const copy = copyAnswerButton(this.text);
    status?.append(copy);
    if (turn instanceof HTMLElement) suppressShortcuts(turn);
    turn.querySelectorAll("details").forEach((details, at) => (details.open = this.opened[at] ?? false));
    if (!this.focus) return;
    const [selector, index] = this.focus;
    const focusTarget = turn.querySelectorAll(selector)[index] ?? copy;
    if (focusTarget instanceof HTMLElement) focusTarget.focus({ preventScroll: true });
  }
}

/**
 * Apply a view's state to the saved turn that replaces it, now or when it appears.
 * @param {Place} place Where the view was. @param {ViewState} state
 */
export function handOff({ area, index }, state) {
  function tryNow() {
    const child = area.children[index];
    const turn = child?.querySelector(".createagents-turn");
    if (!turn || turn.closest(".createagents-live") || claimed.has(turn)) return false;
    state.applyTo(turn);
    return true;
  }
  if (tryNow()) return;
  const observer = new MutationObserver(() => {
    if (tryNow()) observer.disconnect();
  });
  observer.observe(area, { childList: true, subtree: true });
  setTimeout(() => observer.disconnect(), WAIT_MS);
}

/** Tracks the focused element within a root, also after the page has removed it, for which there is no event. */
export class FocusTracker {
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
    // A click elsewhere takes the focus from an element that stays in the page.
    else if (isOurs) queueMicrotask(() => target.isConnected && this.page.activeElement !== target && this.#forget(target));
  }

  /** @param {Element} target */
  #forget(target) {
    if (this.last === target) this.last = null;
  }

  /** The focused element; or the one that was focused when it was removed, if nothing has been focused since. */
  get focused() {
    const { activeElement, body } = this.page;
    if (this.root.isConnected) return this.root.contains(activeElement) ? activeElement : null;
    return activeElement === body ? this.last : null;
  }

  /** Focus an element, even in a root that has been removed from the page. @param {HTMLElement} focusTarget */
  moveTo(focusTarget) {
    focusTarget.focus({ preventScroll: true });
    this.last = focusTarget;
  }

  release() {
    this.page.removeEventListener("focusin", this);
    this.page.removeEventListener("focusout", this);
  }
}
