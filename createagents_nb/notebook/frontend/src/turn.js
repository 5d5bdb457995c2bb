// A turn in the page: its blocks, in the elements and classes of the saved output.

import { Question } from "./approval.js";
import { addCopyCodes } from "./buttons.js";
import constants from "./constants.json";
import { safeFragment } from "./safe_html.js";
import { MarkdownStream } from "./stream.js";
import { FocusKeeper } from "./swap.js";

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
    this.focus = new FocusKeeper(this.root);
    /** @type {Map<string, Element>} */
    this.tools = new Map();
    /** @type {Map<string, Question>} By the key of the card that they stand in. */
    this.questions = new Map();
    /** @type {{ kind: string, stream: MarkdownStream, block: Element } | null} */
    this.growing = null;
    /** @type {string[]} The text of the blocks that have ended. */
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

  /** Show what has been added. */
  render() {
    const { growing } = this;
    if (!growing) return;
    this.#place(growing);
    growing.stream.render();
  }

  /** Nothing more comes in the block that grows. */
  endBlock() {
    const { growing } = this;
    if (!growing) return;
    this.#place(growing);
    growing.stream.finish();
    if (growing.kind === "text") this.answers.push(growing.stream.text);
    this.growing = null;
  }

  /** @param {string} html What our renderer made of the turn's error. */
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

  /** A block of white space is not shown. @param {{ stream: MarkdownStream, block: Element }} growing */
  #place({ stream, block }) {
    if (!block.isConnected && !block.parentElement && stream.text.trim()) this.#append(block, "\n");
  }

  /** What is wrong with a decision. @param {string} attempt @param {string} words */
  tell(attempt, words) {
    for (const question of this.questions.values()) question.tell(attempt, words);
  }

  /** Nobody hears a decision any more. */
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
    const known = this.tools.get(id);
    this.tools.set(id, card);
    if (!known) {
      this.#append(card, "\n");
      return;
    }
    replaceCard(known, card, this.focus);
  }

  /** @param {(Node | string)[]} nodes */
  #append(...nodes) {
    this.status.before(...nodes);
  }
}

/**
 * What the reader has folded out, scrolled and focused in a card stays so in the card that takes its place.
 * @param {Element} before @param {Element} after @param {FocusKeeper} focus
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
  const number = [...before.querySelectorAll("summary")].indexOf(/** @type {any} */ (focused));
  const summaries = after.querySelectorAll("summary");
  // Who has just decided is at a button that goes.
  const heir = summaries[number] ?? summaries[0];
  if (heir) focus.moveTo(heir);
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
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (style) made.setAttribute("style", style);
  return made;
}
