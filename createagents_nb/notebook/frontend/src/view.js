// A view of a turn: renders the kernel's messages as often as the page can afford, and sends Stop and decisions back.

import { announce } from "./announce.js";
import { button, copyAnswerButton, suppressShortcuts } from "./buttons.js";
import { follow } from "./follow.js";
import { ViewState, handOff, placeOf } from "./handoff.js";
import { interrupt } from "./interrupt.js";
import { replaceOutputs } from "./notebook_output.js";
import { addStyle } from "./style.js";
import { Turn } from "./turn.js";

/**
 * @import { Piece } from "./turn.js"
 * @typedef {(string | null)[]} Status The parts of the status line; null is replaced by the elapsed time.
 * @typedef {{ status: string, words: string, error: string }} End
 * @typedef {{ type: string, seq: number, pieces: Piece[], status?: Status, elapsed_s?: number, ended?: End,
 *   source: string, attempt: string, words: string, data: Record<string, unknown> }} Message
 * @typedef {{ get(name: string): any, on(name: string, callback: (...args: any[]) => void): void,
 *   send(content: any): void,
 *   widget_manager: { get_model(id: string): Promise<any>, context?: any } }} Model
 * @typedef {{ messages: Message[], events: EventTarget }} Log
 */

/** Rendering takes at most 1/SHARE of the page's time. */
const SHARE = 8;
const MAX_WAIT_MS = 2_000;
/** How long a view that has ended waits to be replaced by the kernel, and then for the bundle to do it itself. */
const REPLACE_WAIT_MS = 2_000;
const NOT_SAVED = " · this view is not saved: %agent show, or the response in another cell, keeps it";

/**
 * @param {{ model: Model, el: HTMLElement, log: Log }} context
 * @returns {() => void}
 */
export function render({ model, el, log }) {
  addStyle(el.ownerDocument);
  const view = new View(model, el, log);
  log.events.addEventListener("message", view);
  model.send({ type: "hello", view: "new" });
  return () => {
    log.events.removeEventListener("message", view);
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
    // JupyterLab's own classes: it styles the view like saved output.
    this.root.className = "createagents-live jp-RenderedHTMLCommon jp-RenderedHTML";
    this.root.append(this.turn.root);
    el.append(this.root);

    this.read = 0;
    this.seq = 0;
    this.hasAsked = false;
    this.hasEnded = false;
    /** Whether a snapshot of the ended turn has been applied. */
    this.isComplete = false;
    this.isConnected = true;
    this.isScheduled = false;
    this.nextAt = 0;
    this.startedAt = performance.now() - 1000 * (model.get("snapshot").elapsed_s ?? 0);
    /** @type {Status} */
    this.status = this.about.status;
    this.stop = button("Stop", "stop", "Stop this answer; what has arrived is kept", () => this.#stop());
    this.line = el.ownerDocument.createElement("span");
    this.copy = copyAnswerButton(() => this.turn.text);
    this.turn.status.append(this.stop, this.line, this.copy);
    suppressShortcuts(this.turn.root);
    /** @type {import("./handoff.js").Place | null} */
    this.place = null;
    this.timer = setInterval(() => this.#tick(), 1000);
    this.unfollow = follow(this.root);
    this.#tick();
    model.on("comm_live_update", () => this.#disconnect());
    model.on("comm:close", () => (this.isConnected = false));
    announce(`${this.about.agent} is answering`);
    this.handleEvent();
  }

  #tick() {
    const elapsed = Math.floor((performance.now() - this.startedAt) / 1000);
    const time = elapsed < 60 ? `${elapsed} s` : `${Math.floor(elapsed / 60)} min ${elapsed % 60} s`;
    this.line.textContent = this.status.map((part) => part ?? time).join(" · ");
  }

  /** Called when a message has been added to the log. */
  handleEvent() {
    // Done here because the page may have no time for a frame before the saved output replaces the view.
    this.place = placeOf(this.root) ?? this.place;
    if (this.hasEnded) this.#readAll();
    if (this.isScheduled || this.hasEnded) return;
    this.isScheduled = true;
    const wait = this.nextAt - performance.now();
    const schedule = () => {
      if (document.hidden) setTimeout(() => this.#frame(), 200);
      else requestAnimationFrame(() => this.#frame());
    };
    if (wait > 0 && !this.#isEnding()) setTimeout(schedule, wait);
    else schedule();
  }

  #isEnding() {
    return this.log.messages.at(-1)?.type === "end";
  }

  #frame() {
    this.isScheduled = false;
    const started = performance.now();
    this.#readAll();
    if (!this.hasEnded) this.turn.render();
    // Measured after layout and paint.
    setTimeout(() => {
      const now = performance.now();
      this.nextAt = now + Math.min(MAX_WAIT_MS, (SHARE - 1) * (now - started));
    });
  }

  #readAll() {
    while (this.read < this.log.messages.length) this.#apply(this.log.messages[this.read++]);
  }

  /** @param {Message} message */
  #apply(message) {
    if (message.type === "saved") {
      this.#replace(message.data);
    } else if (this.hasEnded) {
      // The last delta of a long answer may have been left to the saved output.
      if (message.type === "snapshot" && message.pieces.length && !this.isComplete) this.#restart(message);
    } else if (message.type === "snapshot") {
      // A view that is up to date keeps the reader's open details and selection.
      if (message.seq > this.seq || this.hasAsked || message.ended) this.#restart(message);
    } else if (message.type === "end") {
      this.#end(/** @type {End} */ (message.ended));
    } else if (message.type === "undecided") {
      this.turn.showProblem(message.attempt, message.words);
    } else if (message.type === "delta" && message.seq > this.seq) {
      if (message.seq === this.seq + 1) {
        this.seq = message.seq;
        message.pieces.forEach((piece) => this.turn.add(piece));
        this.#setStatus(message.status);
      } else if (!this.hasAsked) {
        // A delta is missing: this page was loaded during the stream.
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
    if (snapshot.elapsed_s) this.startedAt = performance.now() - 1000 * snapshot.elapsed_s;
    snapshot.pieces.forEach((piece) => this.turn.add(piece));
    this.#setStatus(snapshot.status);
    if (!snapshot.ended) return;
    this.isComplete = true;
    this.#end(snapshot.ended);
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
    if (this.hasEnded) return;
    this.hasEnded = true;
    clearInterval(this.timer);
    if (this.root.ownerDocument.activeElement === this.stop) this.copy.focus({ preventScroll: true });
    this.stop.remove();
    announce(`${this.about.agent}: ${end.words}`);
    this.replaceTimer = setTimeout(() => this.#askForSaved(), REPLACE_WAIT_MS);
  }

  /** A page that was loaded during the turn no longer receives what the cell displays: it replaces the view itself. */
  #askForSaved() {
    this.replaceTimer = setTimeout(() => this.line.append(NOT_SAVED), REPLACE_WAIT_MS);
    this.#send({ type: "saved" });
  }

  /** @param {Record<string, unknown>} data */
  #replace(data) {
    // Not in the dispatch of a message: this removes the view.
    queueMicrotask(() => this.root.isConnected && replaceOutputs(this.model, data));
  }

  /** The kernel was restarted or has died. */
  #disconnect() {
    this.isConnected = false;
    this.#readAll();
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

  /** Send a message that matters only while there is a kernel. @param {object} message */
  #send(message) {
    if (!this.isConnected) return;
    try {
      this.model.send(message);
    } catch {
      this.isConnected = false; // the notebook is being closed
    }
  }

  remove() {
    this.#readAll();
    clearInterval(this.timer);
    clearTimeout(this.replaceTimer);
    this.unfollow();
    const { place, turn } = this;
    turn.focus.release();
    if (place && this.hasEnded) handOff(place, new ViewState(turn.root, turn.focus.focused, () => turn.text));
    this.#send({ type: "bye" });
  }
}
