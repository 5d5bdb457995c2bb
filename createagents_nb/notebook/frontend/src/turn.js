// A turn in the page: its blocks, with the elements and classes of the saved output.

import { Question } from "./approval.js";
import { addCopyCodes } from "./buttons.js";
import constants from "./constants.json";
import { FocusTracker } from "./handoff.js";
import { safeFragment } from "./safe_html.js";
import { MarkdownStream } from "./stream.js";

/**
 * @import { About, Decision } from "./approval.js"
 * @typedef {["text" | "reasoning", string] | ["tool", string, string] | ["ask", string, About]} Piece
 */

const { styles } = constants;

export class Turn {
  /** @param {{ remoteImages: boolean, decide?: (decision: Decision) => void }} options */
  constructor(options) {
    this.options = options;
    this.root = element("div", "createagents-turn mathjax_ignore tex2jax_ignore", styles.TURN);
    this.status = element("div", "createagents-status", styles.STATUS);
    this.root.append("\n", this.status);
    this.focus = new FocusTracker(this.root);
    /** @type {Map<string, Element>} */
    this.tools = new Map();
    /** @type {Map<string, Question>} By the key of their card. */
    this.questions = new Map();
    /** @type {{ kind: string, stream: MarkdownStream, block: Element } | null} */
    this.growing = null;
    /** @type {string[]} The text of the finished answer blocks. */
    this.answers = [];
  }

  clear() {
    this.root.replaceChildren("\n", this.status);
    this.tools.clear();
    this.questions.clear();
    this.growing = null;
    this.answers = [];
  }

  /** The answer so far, as Markdown. */
  get text() {
    const last = this.growing?.kind === "text" ? [this.growing.stream.text] : [];
    return [...this.answers, ...last].map((text) => text.trim()).join("\n\n");
  }

  /** @param {Piece} piece */
  add(piece) {
    if (piece[0] === "tool") this.#setTool(piece[1], piece[2]);
    else if (piece[0] === "ask") this.#ask(piece[1], piece[2]);
    else this.#grow(piece[0], piece[1]);
  }

  /** Render what has been added. */
  render() {
    const { growing } = this;
    if (!growing) return;
    this.#place(growing);
    growing.stream.render();
  }

  /** Finish the growing block. */
  endBlock() {
    const { growing } = this;
    if (!growing) return;
    this.#place(growing);
    growing.stream.finish();
    if (growing.kind === "text") this.answers.push(growing.stream.text);
    this.growing = null;
  }

  /** @param {string} html The turn's error, from our renderer. */
  setError(html) {
    this.#append(safeFragment(html));
  }

  /** @param {"text" | "reasoning"} kind @param {string} text */
  #grow(kind, text) {
    let { growing } = this;
    if (growing?.kind !== kind) {
      this.endBlock();
      const { block, holder } = kind === "text" ? answerBlock() : reasoningBlock();
      const stream = new MarkdownStream(holder, { ...this.options, onSettled: addCopyCodes });
      this.growing = growing = { kind, stream, block };
    }
    growing.stream.append(text);
  }

  /** Put a block into the page, unless it is all white space. @param {{ stream: MarkdownStream, block: Element }} growing */
  #place({ stream, block }) {
    if (!block.isConnected && !block.parentElement && stream.text.trim()) this.#append(block, "\n");
  }

  /** Show why a decision was refused. @param {string} attempt @param {string} words */
  showProblem(attempt, words) {
    for (const question of this.questions.values()) question.showProblem(attempt, words);
  }

  /** Remove the questions: decisions no longer have an effect. */
  endQuestions() {
    for (const question of this.questions.values()) question.root.remove();
    this.questions.clear();
  }

  /** @param {string} id @param {About} about */
  #ask(id, about) {
    const question = new Question(about, this.options.decide ?? (() => {}));
    this.tools.get(id)?.append(question.root);
    this.questions.set(id, question);
  }

  /** @param {string} id @param {string} html */
  #setTool(id, html) {
    this.endBlock();
    this.questions.delete(id);
    const card = safeFragment(html).firstElementChild;
    if (!card) return;
    const previous = this.tools.get(id);
    this.tools.set(id, card);
    if (!previous) {
      this.#append(card, "\n");
      return;
    }
    replaceCard(previous, card, this.focus);
  }

  /** @param {(Node | string)[]} nodes */
  #append(...nodes) {
    this.status.before(...nodes);
  }
}

/**
 * Replace a card, keeping its open details, scroll positions and focus.
 * @param {Element} before @param {Element} after @param {FocusTracker} focus
 */
function replaceCard(before, after, focus) {
  /** @param {Element} card */
  const detailsOf = (card) => [card, ...card.querySelectorAll("details")];
  const opened = detailsOf(before).map((details) => details.hasAttribute("open"));
  const { focused } = focus;
  const scrolled = [...before.querySelectorAll("pre")].map((pre) => pre.scrollTop);
  detailsOf(after).forEach((details, at) => opened[at] && details.setAttribute("open", ""));
  before.replaceWith(after);
  after.querySelectorAll("pre").forEach((pre, at) => (pre.scrollTop = scrolled[at] ?? 0));
  if (!focused || !before.contains(focused)) return;
  const index = [...before.querySelectorAll("summary")].indexOf(/** @type {any} */ (focused));
  const summaries = after.querySelectorAll("summary");
  // After a decision the focus was on a button that is gone.
  const focusTarget = summaries[index] ?? summaries[0];
  if (focusTarget) focus.moveTo(focusTarget);
}

function answerBlock() {
  const block = element("div", "createagents-answer", styles.ANSWER);
  block.dir = "auto";
  return { block, holder: block };
}

function reasoningBlock() {
  const block = element("details", "createagents-reasoning", styles.BOX);
  const summary = element("summary", "", styles.SUMMARY);
  const word = element("em", "");
  word.textContent = "Reasoning";
  summary.append(word);
  const holder = element("div", "");
  holder.dir = "auto";
  block.append(summary, "\n", holder);
  return { block, holder };
}

/** @param {string} tag @param {string} name @param {string} [style] */
function element(tag, name, style) {
  const created = document.createElement(tag);
  if (name) created.className = name;
  if (style) created.setAttribute("style", style);
  return created;
}
