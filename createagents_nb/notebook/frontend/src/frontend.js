// The module that a page loads once per session; it registers itself for all views of the page.

import { announce } from "./announce.js";
import { recoverOutputs } from "./notebook_output.js";
import { MarkdownStream } from "./stream.js";
import { addStyle } from "./style.js";
import { Turn } from "./turn.js";
import { render } from "./view.js";

const SAMPLE = `# One *two*

Three \`four\` **five** [six](https://localhost), seven.

- eight
- nine

| ten | eleven |
| --- | --- |
| 12 | 13 |

\`\`\`python
def f(x): return [x, "y", 1]
\`\`\`

Enough, $x^2$ said.
`;

export const frontend = { render, recoverOutputs, MarkdownStream };

/** @param {string} name The name for which the loaders wait. */
export function register(name) {
  const page = /** @type {any} */ (globalThis);
  const waiting = page[name];
  announce(""); // a live region is read only if it existed before its text
  page[name] = { promise: Promise.resolve(frontend), resolve() {} };
  waiting?.resolve(frontend);
  (page.requestIdleCallback ?? setTimeout)(warmUp);
}

/** Code runs several times slower for the first time: run it before a reader waits for it. */
function warmUp() {
  addStyle(document);
  const turn = new Turn({ remoteImages: false });
  for (const text of SAMPLE.split(/(?<= )/)) {
    turn.add(["text", text]);
    turn.render();
  }
  turn.endBlock();
  turn.focus.release();
}

export default {
  /**
   * Called by anywidget with the widget that carries this module.
   * @param {{ model: import("./view.js").Model }} context
   */
  initialize({ model }) {
    register(model.get("name"));
  },
};
