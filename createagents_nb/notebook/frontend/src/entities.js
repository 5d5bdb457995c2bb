// Named character references, from the browser's table: replaces the package `entities` in the bundle.

/** @type {Map<string, string>} */
const cache = new Map();

/** @param {string} reference For example `&amp;`; an unknown one is returned unchanged. */
export function decodeHTML(reference) {
  let decoded = cache.get(reference);
  if (decoded === undefined) {
    // A parsed document loads and runs nothing. The dot keeps leading white space, which would be dropped.
    const page = new DOMParser().parseFromString(`.${reference}`, "text/html");
    decoded = (page.body.textContent ?? "").slice(1);
    // `&notit;` is unknown, but the browser decodes its prefix `&not`.
    if (decoded.length > 1 && decoded.endsWith(";")) decoded = reference;
    cache.set(reference, decoded);
  }
  return decoded;
}

export const decodeHTMLStrict = decodeHTML;
