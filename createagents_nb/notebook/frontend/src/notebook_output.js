// The outputs of the notebook that show a widget. JupyterLab and Notebook 7 give a widget access to the notebook's model
// through the widget manager; in other pages there is none, and these functions do nothing.

/**
 * @import { Model } from "./view.js"
 * @typedef {{ data: Record<string, any>, toJSON(): object }} Output
 * @typedef {{ length: number, get(index: number): Output, set(index: number, output: object): void }} Outputs
 */

const WIDGET_MIME = "application/vnd.jupyter.widget-view+json";
const NOT_FOUND = "Error displaying widget: model not found";

/** @param {Model} model @returns {{ outputs: Outputs, index: number }[]} */
function outputsOf(model) {
  const id = model.get("widget_id");
  const found = [];
  for (const { outputs } of model.widget_manager.context?.model?.cells ?? []) {
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
 * Render the outputs of a widget again if the widget manager has given up on them: while a page loads it looks for a
 * model for two seconds only, and in a busy page the model may arrive after its last look.
 * @param {Model} model
 */
export function recoverOutputs(model) {
  const hasFailed = [...document.querySelectorAll(".jp-OutputArea-output")].some((node) => node.textContent === NOT_FOUND);
  if (!hasFailed) return;
  for (const { outputs, index } of outputsOf(model)) outputs.set(index, outputs.get(index).toJSON());
}
