// Formulas as MathML, which browsers render natively: no fonts, styles or scripts are loaded.

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
 * Typeset safe TeX in an element that contains its source; on failure the source stays.
 * @param {Element} element @param {string} tex
 */
export function typeset(element, tex) {
  const holder = document.createElement("span");
  try {
    temml.render(tex, holder, { displayMode: element.tagName === "DIV", throwOnError: true, trust: false });
    element.replaceChildren(...holder.childNodes);
  } catch {
    // The source is readable as well.
  }
}
