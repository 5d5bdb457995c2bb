// The outputs of the notebook that show a widget. JupyterLab and Notebook 7 give a widget access to the notebook's model
// through the widget manager; in other pages there is none, and these functions do nothing.

/**
 * @import { Model } from "./view.js"
 * @typedef {{ data: Record<string, any>, toJSON(): object }} Output
 * @typedef {{ length: number, get(index: number): Output, set(index: number, output: object): void }} Outputs
 */

const WIDGET_MIME = "application/vnd.jupyter.widget-view+json";
const OUTPUT = ".jp-OutputArea-output";
const WATCH_MS = 30_000;
const NOT_FOUND = "Error displaying widget: model not found";

/** @param {Model} model @returns {{ outputs: Outputs, index: number }[]} */
function outputsOf(model) {
  const id = model.get("widget_id");
  const cells = model.widget_manager.context?.model?.cells;
  const found = [];
  for (const { outputs } of typeof cells?.[Symbol.iterator] === "function" ? cells : []) {
    for (let index = 0; index < (outputs?.length ?? 0); index += 1) {
      if (outputs.get(index).data?.[WIDGET_MIME]?.model_id === id) found.push({ outputs, index });
    }
  }
  return found;
}

/**
 * Replace the outputs that show a widget, as the kernel's update of a display would.
 * @param {Model} model @param {Record<string, unknown>} data The MIME bundle to show. @returns {boolean} Whether there were any.
 */
export function replaceOutputs(model, data) {
  const found = outputsOf(model);
  for (const { outputs, index } of found) outputs.set(index, { output_type: "display_data", data, metadata: {} });
  return found.length > 0;
}

/**
 * Render the outputs of a widget again if the widget manager gives up on them: while a page loads it looks for a model
 * for two seconds only, and in a busy page the model may arrive after its last look.
 * https://github.com/jupyter-widgets/ipywidgets/blob/main/packages/base-manager/src/manager-base.ts (`get_model`)
 * @param {Model} model @param {() => boolean} isRendered Whether the model has been found.
 */
export function recoverOutputs(model, isRendered) {
  if (isRendered() || !outputsOf(model).length) return;
  function renderAgain() {
    for (const { outputs, index } of outputsOf(model)) outputs.set(index, outputs.get(index).toJSON());
  }
  if ([...document.querySelectorAll(OUTPUT)].some(hasFailed)) {
    renderAgain();
    return;
  }
  const observer = new MutationObserver((records) => {
    const isLost = !isRendered() && records.some(({ target }) => hasFailed(target));
    if (isLost || isRendered()) observer.disconnect();
    if (isLost) renderAgain();
  });
  observer.observe(document.body, { childList: true, subtree: true });
  setTimeout(() => observer.disconnect(), WATCH_MS);
}

/** @param {Node} node */
function hasFailed(node) {
  return node instanceof Element && node.matches(OUTPUT) && !node.childElementCount && node.textContent === NOT_FOUND;
}
