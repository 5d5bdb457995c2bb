// A view of a turn: what the kernel says goes into the page as often as the page can take it; Stop goes back.

import { announce } from "./announce.js";
import { button, copyAnswerButton, keepLetters } from "./buttons.js";
import { follow } from "./follow.js";
import { interrupt } from "./interrupt.js";
import { addStyle } from "./style.js";
import { Possessions, handOver, placeOf } from "./swap.js";
import { Turn } from "./turn.js";

/**
 * @import { Piece } from "./turn.js"
 * @typedef {(string | null)[]} Status The parts of the status line; null stands for the time that runs.
 * @typedef {{ status: string, words: string, error: string }} End
 * @typedef {{ type: string, seq: number, pieces: Piece[], status?: Status, elapsed_s?: number, ended?: End,
 *   source: string, attempt: string, words: string }} Message
 * @typedef {{ get(name: string): any, on(name: string, callback: (...args: any[]) => void): void,
 *   send(content: any): void,
 *   widget_manager: { get_model(id: string): Promise<any> } }} Model
 * @typedef {{ messages: Message[], heard: EventTarget }} Log
 */

/** Of the page's time, what rendering may take: one part in so many. */
const SHARE = 8;
const MAX_WAIT_MS = 2_000;
const NOT_SAVED_MS = 2_000;
const NOT_SAVED = " · this view is not saved: %agent show, or the response in another cell, keeps it";

/**
 * @param {{ model: Model, el: HTMLElement, log: Log }} context
 * @returns {() => void}
 */
export function render({ model, el, log }) {
  addStyle(el.ownerDocument);
  const view = new View(model, el, log);
  log.heard.addEventListener("message", view);
  model.send({ type: "hello", view: "new" });
  return () => {
    log.heard.removeEventListener("message", view);
    view.remove();
  };
}

/** @implements {EventListenerObject} */
class View {
  /** @param {Model} model @param {HTMLElement} el @param {Log} log */
  constructor(model, el, log) {
    this.model = model;
    this.log = log;
    this.about = model.get("about");
    this.turn = new Turn({
      remoteImages: this.about.remote_images,
      decide: (decision) => model.send({ type: "decide", ...decision }),
    });
    this.root = el.ownerDocument.createElement("div");
    // JupyterLab's own classes: what it does to saved output it does to this.
    this.root.className = "createagents-live jp-RenderedHTMLCommon jp-RenderedHTML";
    this.root.append(this.turn.root);
    el.append(this.root);

    this.read = 0;
    this.seq = 0;
    this.hasAsked = false;
    this.hasEnded = false;
    this.isScheduled = false;
    this.nextAt = 0;
    this.opened = performance.now() - 1000 * (model.get("snapshot").elapsed_s ?? 0);
    /** @type {Status} */
    this.status = this.about.status;
    this.stop = button("Stop", "stop", "Stop this answer; what has arrived is kept", () => this.#stop());
    this.line = el.ownerDocument.createElement("span");
    this.copy = copyAnswerButton(() => this.turn.text);
    this.turn.status.append(this.stop, this.line, this.copy);
    keepLetters(this.turn.root);
    /** @type {import("./swap.js").Place | null} */
    this.place = null;
    this.timer = setInterval(() => this.#tick(), 1000);
    this.unfollow = follow(this.root);
    this.#tick();
    model.on("comm_live_update", () => this.#lose());
    announce(`${this.about.agent} is answering`);
    this.handleEvent();
  }

  #tick() {
    const elapsed = Math.floor((performance.now() - this.opened) / 1000);
    const time = elapsed < 60 ? `${elapsed} s` : `${Math.floor(elapsed / 60)} min ${elapsed % 60} s`;
    this.line.textContent = this.status.map((part) => part ?? time).join(" · ");
  }

  /** There is something new in the log. */
  handleEvent() {
    // Also when the page has no time for a frame: the end is heard before its successor takes the view's place.
    this.place = placeOf(this.root) ?? this.place;
    if (this.isScheduled || this.hasEnded) return;
    this.isScheduled = true;
    const wait = this.nextAt - performance.now();
    const ask = () => (document.hidden ? setTimeout(() => this.#frame(), 200) : requestAnimationFrame(() => this.#frame()));
    if (wait > 0 && !this.#isEnding()) setTimeout(ask, wait);
    else ask();
  }

  #isEnding() {
    return this.log.messages.at(-1)?.type === "end";
  }

  #frame() {
    this.isScheduled = false;
    const started = performance.now();
    this.#takeAll();
    if (!this.hasEnded) this.turn.render();
    // Measured when the page has been laid out and painted, too.
    setTimeout(() => {
      const now = performance.now();
      this.nextAt = now + Math.min(MAX_WAIT_MS, (SHARE - 1) * (now - started));
    });
  }

  #takeAll() {
    while (this.read < this.log.messages.length) this.#take(this.log.messages[this.read++]);
  }

  /** @param {Message} message */
  #take(message) {
    if (message.type === "snapshot") {
      // A view that has it all keeps what the reader has folded out and selected in it.
      if (message.seq > this.seq || this.hasAsked || message.ended) this.#restart(message);
    } else if (message.type === "end") {
      this.#end(/** @type {End} */ (message.ended));
    } else if (message.type === "undecided") {
      this.turn.tell(message.attempt, message.words);
    } else if (message.type === "delta" && message.seq > this.seq) {
      if (message.seq === this.seq + 1) {
        this.seq = message.seq;
        message.pieces.forEach((piece) => this.turn.add(piece));
        this.#setStatus(message.status);
      } else if (!this.hasAsked) {
        // Something was missed: this page is younger than the stream.
        this.hasAsked = true;
        this.model.send({ type: "hello" });
      }
    }
  }

  /** @param {Message} snapshot */
  #restart(snapshot) {
    this.turn.clear();
    this.seq = snapshot.seq;
    this.hasAsked = false;
    if (snapshot.elapsed_s) this.opened = performance.now() - 1000 * snapshot.elapsed_s;
    snapshot.pieces.forEach((piece) => this.turn.add(piece));
    this.#setStatus(snapshot.status);
    if (snapshot.ended) this.#end(snapshot.ended);
  }

  /** @param {Status | undefined} status */
  #setStatus(status) {
    if (!status) return;
    this.status = status;
    this.#tick();
  }

  /** @param {End} end */
  #end(end) {
    this.turn.endBlock();
    this.turn.endQuestions();
    if (end.error) this.turn.setError(end.error);
    this.status = [end.status];
    this.#tick();
    this.hasEnded = true;
    clearInterval(this.timer);
    if (this.root.ownerDocument.activeElement === this.stop) this.copy.focus({ preventScroll: true });
    this.stop.remove();
    announce(`${this.about.agent}: ${end.words}`);
    this.notSaved = setTimeout(() => this.line.append(NOT_SAVED), NOT_SAVED_MS);
  }

  /** The kernel was restarted, or has died. */
  #lose() {
    this.#takeAll();
    if (this.hasEnded) return;
    const words = "ended: the kernel is gone";
    this.#end({ status: [...this.about.status.slice(0, 2), words].join(" · "), words, error: "" });
  }

  async #stop() {
    const { stop } = this;
    if (stop.getAttribute("aria-disabled")) return;
    stop.setAttribute("aria-disabled", "true");
    stop.textContent = "Stopping…";
    this.model.send({ type: "stop" });
    const kernel = this.model.get("interrupt");
    if (kernel && !(await interrupt(kernel))) stop.textContent = "Use the notebook's ■";
  }

  remove() {
    this.#takeAll();
    clearInterval(this.timer);
    clearTimeout(this.notSaved);
    this.unfollow();
    const { place, turn } = this;
    turn.focus.release();
    if (place && this.hasEnded) handOver(place, new Possessions(turn.root, turn.focus.focused, () => turn.text));
  }
}
