// The page's half of the live view: text as it comes, tool lines, status, Stop.
// Everything from a model or a tool enters the page as text content, never as HTML.

const STYLE = `
.createagents-live { font-family: var(--jp-content-font-family, system-ui, sans-serif);
  font-size: var(--jp-content-font-size1, 14px); line-height: 1.5; color: var(--jp-content-font-color1, inherit);
  padding: 0.2em 20px 0.9em 0; }
.createagents-live .text { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0.5em 0; }
.createagents-live .reasoning { white-space: pre-wrap; overflow-wrap: anywhere; font-style: italic; margin: 0.5em 0;
  color: var(--jp-content-font-color2, inherit); border-left: 3px solid var(--jp-border-color1, #bbb);
  padding-left: 0.7em; }
.createagents-live .tool { font-family: var(--jp-code-font-family, monospace); font-size: 0.93em; margin: 0.5em 0;
  padding: 0.3em 0.7em; border: 1px solid var(--jp-border-color2, #ccc); border-radius: 4px;
  overflow-wrap: anywhere; }
.createagents-live .bar { display: flex; gap: 0.8em; align-items: baseline; margin-top: 0.6em; font-size: 0.85em;
  color: var(--jp-ui-font-color2, inherit); font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.createagents-live button { flex: none; font: inherit; cursor: pointer; padding: 0.1em 0.9em; border-radius: 4px;
  color: var(--jp-ui-font-color1, #222); background: var(--jp-layout-color2, #eee);
  border: 1px solid var(--jp-border-color1, #bbb); }
.createagents-live button:disabled { cursor: default; color: var(--jp-ui-font-color2, #666); }
.createagents-live button:focus-visible { outline: 2px solid var(--jp-brand-color1, #1976d2); outline-offset: 1px; }
`;

/** @param {{ model: any, el: HTMLElement }} context */
function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "createagents-live";
  const style = document.createElement("style");
  style.textContent = STYLE;
  const body = document.createElement("div");
  body.dir = "auto";
  const bar = document.createElement("div");
  bar.className = "bar";
  const line = document.createElement("span");
  const status = document.createElement("span");
  status.setAttribute("role", "status");
  const clock = document.createElement("span");
  clock.setAttribute("aria-hidden", "true");
  line.append(status, clock);
  const stop = document.createElement("button");
  stop.type = "button";
  stop.textContent = "Stop";
  stop.title = "Stop this answer; what has arrived is kept";
  bar.append(stop, line);
  root.append(style, body, bar);
  el.append(root);

  const about = model.get("about");
  let opened = performance.now();
  status.textContent = [about.agent, `${about.provider}/${about.model}`]
    .concat(about.demo ? ["demo provider: canned text"] : [])
    .concat("streaming…")
    .join(" · ");

  let seq = 0;
  let asked = false;
  /** @type {Map<string, HTMLElement>} */
  let tools = new Map();
  /** @type {HTMLElement | null} */
  let open = null;

  /** @param {string[]} piece */
  function add(piece) {
    const [kind] = piece;
    if (kind === "tool") {
      let tool = tools.get(piece[1]);
      if (!tool) {
        tool = document.createElement("div");
        tool.className = "tool";
        tools.set(piece[1], tool);
        body.append(tool);
        open = null;
      }
      tool.textContent = `⚙ ${piece[2]}`;
      return;
    }
    if (!open || open.className !== kind) {
      open = document.createElement("div");
      open.className = kind;
      body.append(open);
    }
    open.append(piece[1]);
  }

  /** @param {{ seq: number, pieces: string[][], elapsed_s?: number, ended?: string }} snapshot */
  function restart(snapshot) {
    if (snapshot.seq < seq) return;
    body.replaceChildren();
    tools = new Map();
    open = null;
    seq = snapshot.seq;
    asked = false;
    if (snapshot.elapsed_s) opened = performance.now() - 1000 * snapshot.elapsed_s;
    snapshot.pieces.forEach(add);
    if (snapshot.ended) end(snapshot.ended);
  }

  /** @param {string} how */
  function end(how) {
    clearInterval(timer);
    stop.remove();
    clock.remove();
    status.textContent = `${how} · this view is not saved: %agent show, or the response in another cell, keeps it`;
  }

  /** @param {any} message */
  function onMessage(message) {
    if (message.type === "snapshot") restart(message);
    if (message.type !== "delta" || message.seq <= seq) return;
    if (message.seq === seq + 1) {
      seq = message.seq;
      message.pieces.forEach(add);
    } else if (!asked) {
      // Something was missed: this view is younger than the stream.
      asked = true;
      model.send({ type: "hello" });
    }
  }

  function onSnapshot() {
    const snapshot = model.get("snapshot");
    if (snapshot.seq > seq || snapshot.ended) restart(snapshot);
  }

  stop.addEventListener("click", () => {
    stop.disabled = true;
    stop.textContent = "Stopping…";
    model.send({ type: "stop" });
    const kernel = model.get("interrupt");
    if (kernel) interrupt(kernel, stop);
  });
  // While Stop has the focus, a letter must not run a command of JupyterLab's; Ctrl+S still saves.
  /** @param {Pick<KeyboardEvent, "ctrlKey" | "metaKey">} event */
  const suppressLetters = (event) =>
    stop.toggleAttribute("data-lm-suppress-shortcuts", !event.ctrlKey && !event.metaKey);
  suppressLetters({ ctrlKey: false, metaKey: false });
  stop.addEventListener("keydown", suppressLetters);
  stop.addEventListener("keyup", suppressLetters);
  const timer = setInterval(() => {
    clock.textContent = ` ${((performance.now() - opened) / 1000).toFixed(0)} s`;
  }, 1000);

  model.on("msg:custom", onMessage);
  model.on("change:snapshot", onSnapshot);
  onSnapshot();
  model.send({ type: "hello", view: "new" });
  return () => {
    clearInterval(timer);
    model.off("msg:custom", onMessage);
    model.off("change:snapshot", onSnapshot);
  };
}

/**
 * A kernel that hears no messages while a cell runs is interrupted through the server.
 * @param {string} kernel
 * @param {HTMLButtonElement} stop
 */
async function interrupt(kernel, stop) {
  const config = JSON.parse(document.getElementById("jupyter-config-data")?.textContent || "{}");
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/)?.[1] ?? "";
  const headers = { "X-XSRFToken": xsrf, ...(config.token ? { Authorization: `token ${config.token}` } : {}) };
  const url = `${config.baseUrl ?? "/"}api/kernels/${encodeURIComponent(kernel)}/interrupt`;
  const reply = await fetch(url, { method: "POST", headers, credentials: "same-origin" }).catch(() => null);
  if (!reply?.ok) stop.textContent = "Use the notebook's ■";
}

export default { render };
