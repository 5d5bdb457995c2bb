// Sent with every view: collects the kernel's messages, and delegates rendering to the front end, which a page loads once.
// The front end is the module of a widget that all turns share; if it cannot be loaded, the kernel sends its source.

/**
 * @typedef {import("./view.js").Model} Model
 * @typedef {import("./view.js").Message} Message
 * @typedef {typeof import("./frontend.js").frontend} Frontend
 */

const SOURCE_WAIT_MS = 4_000;

/** @typedef {{ promise: Promise<Frontend>, resolve: (frontend: Frontend) => void }} Deferred */

/** One front end per page and version. @type {Record<string, Deferred | undefined>} */
const page = /** @type {any} */ (globalThis);

export default () => {
  /** The messages of this turn so far, for views that are created later. @type {import("./view.js").Log} */
  const log = { messages: [], events: new EventTarget() };
  let isRendered = false;
  /** @type {Promise<Frontend> | undefined} */
  let loading;

  /** @param {Model} model @returns {Promise<Frontend>} */
  async function load(model) {
    const name = model.get("frontend_name");
    const { promise } = (page[name] ??= deferred());
    // Requesting the model loads its module.
    model.widget_manager.get_model(model.get("frontend_id")).catch(() => {});
    const timer = setTimeout(() => model.send({ type: "frontend" }), SOURCE_WAIT_MS);
    const frontend = await promise;
    clearTimeout(timer);
    return frontend;
  }

  return {
    /** @param {{ model: Model }} context */
    initialize({ model }) {
      const snapshot = model.get("snapshot");
      if (snapshot.pieces.length || snapshot.ended) log.messages.push({ ...snapshot, type: "snapshot" });
      model.on("msg:custom", (/** @type {Message} */ message) => {
        if (message.type === "frontend") {
          const url = URL.createObjectURL(new Blob([message.source], { type: "text/javascript" }));
          import(url).then((module) => module.register(model.get("frontend_name")));
          return;
        }
        log.messages.push(message);
        log.events.dispatchEvent(new Event("message"));
      });
      // While a notebook is being loaded, its outputs are rendered before their models have arrived.
      loading = load(model);
      loading.then((frontend) => frontend.recoverOutputs(model, () => isRendered));
    },

    /** @param {{ model: Model, el: HTMLElement }} context */
    async render({ model, el }) {
      isRendered = true;
      const frontend = await (loading ?? load(model));
      return frontend.render({ model, el, log });
    },
  };
};

/** @returns {Deferred} */
function deferred() {
  /** @type {any} */
  const made = {};
  made.promise = new Promise((resolve) => (made.resolve = resolve));
  return made;
}
