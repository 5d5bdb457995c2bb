// Styles of what exists only in the live page; everything else has inline styles, as in the saved output.

const CSS = `
.createagents-live { font-family: var(--jp-content-font-family, system-ui, sans-serif);
  font-size: var(--jp-content-font-size1, 14px); line-height: var(--jp-content-line-height, 1.6);
  color: var(--jp-content-font-color1, inherit); overflow-wrap: anywhere; }
.createagents-live table { margin-left: 0; margin-right: 0; }
.createagents-live math { line-height: 1; }
.createagents-live div.createagents-maths > math { margin: 1.3em 0; }
.createagents-turn .highlight { position: relative; }
.createagents-turn .createagents-status { font-variant-numeric: tabular-nums; }
.createagents-button { font: inherit; font-family: var(--jp-ui-font-family, system-ui, sans-serif); cursor: pointer;
  line-height: 1.3; padding: 0 0.7em; margin: 0 0 0 0.8em; border-radius: 3px; vertical-align: baseline;
  color: var(--jp-ui-font-color1, #222); background: var(--jp-layout-color2, #eee);
  border: 1px solid var(--jp-border-color1, #888); }
.createagents-button:hover { background: var(--jp-layout-color3, #ddd); }
.createagents-button:focus-visible, .createagents-turn summary:focus-visible {
  outline: 2px solid var(--jp-brand-color1, #1976d2); outline-offset: 1px; }
.createagents-button.createagents-stop { margin: 0 0.8em 0 0; font-weight: 600; }
.createagents-button[aria-disabled="true"] { cursor: default; font-weight: normal; }
.createagents-question { margin: 0.6em 0 0.4em; display: flex; flex-wrap: wrap; gap: 0.5em; }
.createagents-question .createagents-button { margin: 0; padding: 0.1em 0.9em; }
.createagents-approve, .createagents-save { font-weight: 600; }
.createagents-arguments { flex: 1 0 100%; box-sizing: border-box; width: 100%; resize: vertical; margin: 0;
  padding: 0.4em 0.6em; border-radius: 3px; font-family: var(--jp-code-font-family, monospace);
  font-size: var(--jp-code-font-size, 13px); line-height: 1.4; color: var(--jp-content-font-color1, #222);
  background: var(--jp-layout-color0, #fff); border: 1px solid var(--jp-border-color1, #888); }
.createagents-arguments:focus-visible { outline: 2px solid var(--jp-brand-color1, #1976d2); outline-offset: 1px; }
.createagents-arguments[aria-invalid] { border-color: var(--jp-error-color1, #d32f2f); }
.createagents-problem { flex: 1 0 100%; color: var(--jp-error-color1, #d32f2f); }
.createagents-problem:empty { display: none; }
.createagents-copy-code { position: absolute; top: 0.3em; right: 0.3em; font-size: 0.8em; opacity: 0; }
.highlight:hover > .createagents-copy-code, .createagents-copy-code:focus-visible { opacity: 1; }
@media (hover: none), (forced-colors: active) { .createagents-copy-code { opacity: 1; } }
.createagents-announcer { position: fixed; left: 0; bottom: 0; width: 1px; height: 1px; margin: -1px; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap; border: 0; padding: 0; opacity: 0; pointer-events: none; }
@media print { .createagents-button, .createagents-question { display: none; } }
`;

/** @type {WeakSet<Document>} */
const styled = new WeakSet();

/** @param {Document} page */
export function addStyle(page) {
  if (styled.has(page)) return;
  styled.add(page);
  const style = page.createElement("style");
  style.textContent = CSS;
  page.head.append(style);
}
