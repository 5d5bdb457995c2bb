// The module that a page loads once a session: it makes itself known to all views of the page.

import { announce } from "./announce.js";
import { MarkdownStream } from "./stream.js";
import { render } from "./view.js";

export const frontend = { render, MarkdownStream };

/** @param {string} name What the loaders wait for. */
export function register(name) {
  const page = /** @type {any} */ (globalThis);
  const known = page[name];
  announce(""); // a region that is filled when it is made is not read
  page[name] = { promise: Promise.resolve(frontend), resolve() {} };
  known?.resolve(frontend);
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
