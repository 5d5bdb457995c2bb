// The controls in the card of a call that waits for approval: Approve, Edit and Reject.

import { announce } from "./announce.js";
import { button } from "./buttons.js";

/**
 * @typedef {{ id: string, round: number, tool: string, arguments: string }} About
 * @typedef {{ id: string, round: number, approved: boolean, attempt: string, arguments?: string }} Decision
 */

let count = 0;

export class Question {
  /** @param {About} about @param {(decision: Decision) => void} decide */
  constructor(about, decide) {
    this.about = about;
    this.decide = decide;
    this.attempt = "";
    this.number = (count += 1);
    this.root = group("createagents-question", `Approve ${about.tool}?`);
    this.buttons = [
      button("Approve", "approve", "Run the tool with these arguments", (clicked) => this.#send(clicked, true)),
      button("Edit", "edit", "Change the arguments first", () => this.#edit()),
      button("Reject", "reject", "Do not run the tool; the model is told", (clicked) => this.#send(clicked, false)),
    ];
    this.root.append(...this.buttons);
    // A snapshot may contain the decision as well: then the question is no longer in the page by now.
    queueMicrotask(() => this.root.isConnected && announce(`${about.tool} waits for approval`));
  }

  /** Show why the kernel refused a decision. @param {string} attempt @param {string} words */
  showProblem(attempt, words) {
    if (attempt === this.attempt) this.#setProblem(words);
  }

  /** @param {HTMLButtonElement} clicked @param {boolean} approved @param {string} [json] */
  #send(clicked, approved, json) {
    if (clicked.getAttribute("aria-disabled")) return;
    for (const each of this.root.querySelectorAll("button")) each.setAttribute("aria-disabled", "true");
    const { id, round } = this.about;
    this.attempt = `${Math.random()}`;
    this.decide({ id, round, approved, attempt: this.attempt, ...(json === undefined ? {} : { arguments: json }) });
  }

  #edit() {
    if (this.root.querySelector("[aria-disabled]")) return;
    const area = document.createElement("textarea");
    area.className = "createagents-arguments";
    area.value = this.about.arguments;
    area.rows = Math.min(12, 1 + area.value.split("\n").length);
    area.spellcheck = false;
    area.dir = "auto";
    area.setAttribute("aria-label", `Arguments of ${this.about.tool}, as JSON`);
    const problem = document.createElement("div");
    problem.className = "createagents-problem";
    problem.id = `createagents-problem-${this.number}`;
    problem.setAttribute("role", "alert");
    area.setAttribute("aria-describedby", problem.id);
    const save = button("Save & approve", "save", "Run the tool with the arguments above", (clicked) => {
      const words = problemOf(area.value);
      if (words) this.#setProblem(words);
      else this.#send(clicked, true, area.value);
    });
    const cancel = button("Cancel", "cancel", "Leave the arguments as they are", () => this.#close());
    area.addEventListener("keydown", (event) => event.key === "Escape" && this.#close());
    area.addEventListener("input", () => this.#setProblem(""));
    this.root.replaceChildren(area, problem, save, cancel);
    area.focus({ preventScroll: true });
  }

  #close() {
    this.root.replaceChildren(...this.buttons);
    this.buttons[1].focus({ preventScroll: true });
  }

  /** @param {string} words */
  #setProblem(words) {
    const problem = this.root.querySelector(".createagents-problem");
    const area = this.root.querySelector("textarea");
    for (const each of this.root.querySelectorAll("button")) each.removeAttribute("aria-disabled");
    if (!problem || !area) return;
    problem.textContent = words;
    area.toggleAttribute("aria-invalid", Boolean(words));
    if (words) area.focus({ preventScroll: true });
  }
}

/** @param {string} json @returns {string} The problem, or ""; the kernel checks the arguments against the tool's schema. */
function problemOf(json) {
  try {
    const value = JSON.parse(json);
    return value && typeof value === "object" && !Array.isArray(value) ? "" : "The arguments must be a JSON object: {…}";
  } catch (error) {
    return `Not JSON: ${error instanceof Error ? error.message : error}`;
  }
}

/** @param {string} name @param {string} label */
function group(name, label) {
  const element = document.createElement("div");
  element.className = name;
  element.setAttribute("role", "group");
  element.setAttribute("aria-label", label);
  return element;
}
