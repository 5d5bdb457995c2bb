// Code spans as markdown-it-py finds them: markdown-it's rule caches less when another rule looks ahead past a span.

/** @import StateInline from "markdown-it/lib/rules_inline/state_inline.mjs" */

/** @param {StateInline & { lastRuns?: number[] }} state @param {boolean} silent */
export function backticks(state, silent) {
  const { src, pos: start, posMax } = state;
  if (src[start] !== "`") return false;
  const begin = endOfRun(src, start, posMax);
  const length = begin - start;
  state.lastRuns ??= runsOf(src);
  if ((state.lastRuns[length] ?? -1) >= begin) {
    for (let at = src.indexOf("`", begin); at >= 0 && at < posMax; at = src.indexOf("`", at)) {
      const end = endOfRun(src, at, src.length);
      if (end > posMax) break;
      if (end - at === length) {
        if (!silent) {
          const token = state.push("code_inline", "code", 0);
          token.markup = "`".repeat(length);
          const code = src.slice(begin, at).replace(/\n/g, " ");
          token.content = /^ .*[^ ].* $/.test(code) ? code.slice(1, -1) : code;
        }
        state.pos = end;
        return true;
      }
      at = end;
    }
  }
  if (!silent) state.pending += "`".repeat(length);
  state.pos = begin;
  return true;
}

/** @param {string} src @param {number} at @param {number} stop */
function endOfRun(src, at, stop) {
  let end = at;
  while (end < stop && src[end] === "`") end += 1;
  return end;
}

/** @param {string} src @returns {number[]} The position of the last run of backticks of each length. */
function runsOf(src) {
  /** @type {number[]} */
  const last = [];
  for (const run of src.matchAll(/`+/g)) last[run[0].length] = run.index;
  return last;
}
