// Named character references, by the browser's own table: stands in the bundle for the package `entities`.

/** @type {Map<string, string>} */
const known = new Map();

/** @param {string} reference As `&amp;`; returned as it is where there is no such name. */
export function decodeHTML(reference) {
  let decoded = known.get(reference);
  if (decoded === undefined) {
    // Of a document of its own, which loads and runs nothing. Leading white space would be dropped.
    const page = new DOMParser().parseFromString(`.${reference}`, "text/html");
    decoded = (page.body.textContent ?? "").slice(1);
    // `&notit;` is no name, and the browser takes its beginning for one.
    if (decoded.length > 1 && decoded.endsWith(";")) decoded = reference;
    known.set(reference, decoded);
  }
  return decoded;
}

export const decodeHTMLStrict = decodeHTML;
