// HTML from our own renderer, copied into the page through an allowlist of tags and attributes.

import constants from "./constants.json";

const TAGS = new Set(
  ("div span p pre code details summary strong em s ul ol li blockquote h1 h2 h3 h4 h5 h6 table caption thead tbody " +
    "tr th td a br hr img").split(" "),
);
const STYLES = new Set(Object.values(constants.styles));
const CLASS = /^(?:createagents-[a-z-]+|highlight|language-[a-z]+|mathjax_ignore|tex2jax_ignore)$/;

/** @type {Record<string, (value: string) => boolean>} */
const ATTRIBUTES = {
  alt: () => true,
  class: (value) => value.split(" ").every((name) => CLASS.test(name)),
  dir: (value) => value === "auto" || value === "ltr",
  open: (value) => value === "",
  scope: (value) => value === "col" || value === "row",
  src: (value) => /^data:image\/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]*={0,2}$/.test(value),
  style: (value) => STYLES.has(value) || /^text-align:(?:left|right|center|start)$/.test(value),
};

/**
 * Copy our renderer's HTML into nodes of this page.
 * @param {string} html
 */
export function safeFragment(html) {
  const fragment = document.createDocumentFragment();
  // A parsed document runs and loads nothing.
  copyInto(fragment, new DOMParser().parseFromString(html, "text/html").body);
  return fragment;
}

/** @param {Node} target @param {Node} source */
function copyInto(target, source) {
  for (const child of source.childNodes) {
    if (child instanceof Text) {
      target.appendChild(document.createTextNode(child.data));
    } else if (child instanceof Element && TAGS.has(child.localName)) {
      const copy = document.createElement(child.localName);
      for (const { name, value } of child.attributes) {
        if (Object.hasOwn(ATTRIBUTES, name) && ATTRIBUTES[name](value)) copy.setAttribute(name, value);
      }
      copyInto(copy, child);
      target.appendChild(copy);
    }
  }
}
