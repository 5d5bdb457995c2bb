// Formulas as MathML, which browsers draw themselves: no fonts, no styles and no scripts are loaded.

import temml from "temml";

/** @param {string} tex Safe TeX. */
export function canSet(tex) {
  try {
    temml.renderToString(tex, { throwOnError: true, trust: false });
    return true;
  } catch {
    return false;
  }
}

/**
 * Show TeX that is known to be safe in an element that holds its source; what cannot be set stays as it is.
 * @param {Element} element @param {string} tex
 */
export function typeset(element, tex) {
  const holder = document.createElement("span");
  try {
    temml.render(tex, holder, { displayMode: element.tagName === "DIV", throwOnError: true, trust: false });
    element.replaceChildren(...holder.childNodes);
  } catch {
    // The source is readable too.
  }
}
