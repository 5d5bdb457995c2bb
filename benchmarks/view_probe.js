// In every page before its own scripts: notes what a user would notice, as it happens. Times are Date.now()'s, in ms.

(() => {
  const SCROLLER = ".jp-WindowedPanel-outer";
  const SETTLE_MS = 700; // what comes late of a long task, and of a jump
  /** @type {[number, number][]} Start and duration. */
  const tasks = [];
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) tasks.push([performance.timeOrigin + task.startTime, task.duration]);
  }).observe({ type: "longtask", buffered: true });

  /** @param {number} number */
  const cellAt = (number) => document.querySelector(`.jp-Notebook .jp-Cell[data-windowed-list-index="${number}"]`);
  /** @type {(cell: Element) => Element | undefined} */
  const liveOf = (cell) => cell.querySelector(".createagents-live") ?? undefined;
  /** @type {(cell: Element) => Element | undefined} */
  const staticOf = (cell) =>
    [...cell.querySelectorAll(".createagents-turn")].find((turn) => !turn.closest(".createagents-live"));

  /**
   * Watch a cell until it shows its answer to the end, or for too long; `viewProbe.now.result` is then there.
   * @param {{ cell: number, mark: string, baseline: boolean, frames: boolean, limitMs: number }} options
   *   `mark` is the last word of the answer.
   */
  function watch({ cell: number, mark, baseline, frames, limitMs }) {
    tasks.length = 0;
    const opened = Date.now();
    const probe = (window.viewProbe.now = { result: null, frames: [] });
    let done = 0;
    /** @type {Element | null} */
    let cell = null;

    const isDone = () => {
      const last = baseline ? cell.querySelector(".jp-RenderedMarkdown > :last-child") : staticOf(cell);
      return Boolean(last?.textContent.includes(mark));
    };

    /** One line for each frame: [time, scrollTop, height of the output, "live" | "static" | "", what is cut off]. */
    const note = () => {
      const scroller = document.querySelector(SCROLLER);
      const output = cell.querySelector(".jp-Cell-outputWrapper");
      const live = baseline ? undefined : liveOf(cell);
      const root = live ?? (baseline ? cell.querySelector(".jp-RenderedMarkdown") : staticOf(cell));
      const bottom = root?.getBoundingClientRect().bottom ?? 0;
      const cutOff = root ? bottom - scroller.getBoundingClientRect().bottom : 0;
      const height = output?.getBoundingClientRect().height ?? 0;
      const state = live ? "live" : root ? "static" : "";
      probe.frames.push([Date.now(), scroller.scrollTop, height, state, cutOff]);
    };

    const frame = () => {
      if (probe !== window.viewProbe.now) return;
      cell ??= cellAt(number);
      if (done ? Date.now() - done > SETTLE_MS : Date.now() - opened > limitMs) {
        probe.result = { done, at: done || Date.now(), tasks, frames: probe.frames };
        return;
      }
      // The frame after: by then it has been painted.
      if (!done && cell && isDone()) requestAnimationFrame(() => (done ||= Date.now()));
      if (frames && cell) {
        // A new observer each time is the last to be called, after layout and everybody else, right before the paint.
        const observer = new ResizeObserver(() => {
          observer.disconnect();
          note();
        });
        observer.observe(document.documentElement);
      }
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  /** How far to turn the wheel so that the end of a cell, or the middle of it, is where a reader would have it. */
  function wheelTo({ cell, where }) {
    const box = cellAt(cell).getBoundingClientRect();
    const view = document.querySelector(SCROLLER).getBoundingClientRect();
    if (where === "bottom") return box.bottom - view.bottom + 150;
    return (box.top + box.bottom) / 2 - (view.top + view.bottom) / 2;
  }

  window.viewProbe = { watch, wheelTo, cell: cellAt, now: null };
})();
