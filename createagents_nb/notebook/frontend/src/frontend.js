// The module that a page loads once a session: it makes itself known to all views of the page.

import { announce } from "./announce.js";
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

export const frontend = { render, MarkdownStream };

/** @param {string} name What the loaders wait for. */
export function register(name) {
  const page = /** @type {any} */ (globalThis);
  const known = page[name];
  announce(""); // a region that is filled when it is made is not read
  page[name] = { promise: Promise.resolve(frontend), resolve() {} };
  known?.resolve(frontend);
  (page.requestIdleCallback ?? setTimeout)(warmUp);
}

/** What a page does for the first time takes it several times as long: here nobody waits for it. */
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
   * What anywidget calls with the widget whose module this is.
   * @param {{ model: import("./view.js").Model }} context
   */
  initialize({ model }) {
    register(model.get("name"));
  },
};
