// What every view carries: it keeps what the kernel sends, and hands over to the front end, which a page loads once.
// The front end is the module of another widget, one a kernel; where that cannot be had, the kernel sends its source.

/**
 * @typedef {import("./view.js").Model} Model
 * @typedef {import("./view.js").Message} Message
 * @typedef {typeof import("./frontend.js").frontend} Frontend
 */

const WAIT_MS = 4_000;

/** @typedef {{ promise: Promise<Frontend>, resolve: (frontend: Frontend) => void }} Awaited */

/** One front end a page and version. @type {Record<string, Awaited | undefined>} */
const page = /** @type {any} */ (globalThis);

export default () => {
  /** What this turn has said so far, for the views to come. @type {{ messages: Message[], heard: EventTarget }} */
  const log = { messages: [], heard: new EventTarget() };

  /** @param {Model} model @returns {Promise<Frontend>} */
  async function load(model) {
    const name = model.get("frontend_name");
    const { promise } = (page[name] ??= awaited());
    // To have its model is to have its module loaded.
    model.widget_manager.get_model(model.get("frontend_id")).catch(() => {});
    const timer = setTimeout(() => model.send({ type: "frontend" }), WAIT_MS);
    const frontend = await promise;
    clearTimeout(timer);
    return frontend;
  }

  return {
    /** @param {{ model: Model }} context */
    initialize({ model }) {
      const { pieces } = model.get("snapshot");
      if (pieces.length) log.messages.push({ ...model.get("snapshot"), type: "snapshot" });
      model.on("msg:custom", (/** @type {Message} */ message) => {
        if (message.type === "frontend") {
          const url = URL.createObjectURL(new Blob([message.source], { type: "text/javascript" }));
          import(url).then((module) => module.register(model.get("frontend_name")));
          return;
        }
        log.messages.push(message);
        log.heard.dispatchEvent(new Event("message"));
      });
    },

    /** @param {{ model: Model, el: HTMLElement }} context */
    async render({ model, el }) {
      const frontend = await load(model);
      return frontend.render({ model, el, log });
    },
  };
};

/** @returns {Awaited} */
function awaited() {
  /** @type {any} */
  const made = {};
  made.promise = new Promise((resolve) => (made.resolve = resolve));
  return made;
}
