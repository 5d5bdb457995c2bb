// What `harmless.py` runs in the page.
({
  /** What does not belong in `scope`; `around` is that of the page in which an escaped element could be. */
  inspect([scope, around]) {
    const TAGS = new Set(
      ("div span p pre code details summary strong b em i s del ul ol li blockquote h1 h2 h3 h4 h5 h6 table caption " +
        "colgroup col thead tbody tr th td a br hr img button").split(" "),
    );
    const NEVER =
      "script, style, link, meta, base, iframe, frame, frameset, object, embed, applet, form, input, select, " +
      "textarea, svg, math, video, audio, source, picture, template, marquee, [srcdoc], [contenteditable], " +
      "[autofocus], [formaction], [data-commandlinker-command], [data-commandlinker-args], " +
      'img:not([src^="data:image/"])';
    const ADDRESSES = new Set("src srcset data action background poster ping xlink:href cite manifest".split(" "));
    const CLASS = /^(createagents-[a-z-]+|highlight|language-[a-z]+|(mathjax|tex2jax)_(ignore|process))$/;
    const PICTURE = /^data:image\/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+=*$/;
    const FETCHES = /url\(|image-set\(|expression\(|@import|behavior:|javascript:|\\/i;
    const MOVES = /position\s*:|z-index|inset\s*:|transform|animation|opacity/i;

    /** @type {Map<string, { times: number, example: string }>} */
    const found = new Map();
    const note = (what, element) => {
      const known = found.get(what) ?? { times: 0, example: element.outerHTML.slice(0, 300).replace(/\s+/g, " ") };
      found.set(what, { ...known, times: known.times + 1 });
    };
    const roots = [...document.querySelectorAll(scope)];
    // Whoever typesets a formula makes elements of its own inside the place that is ours.
    const isMaths = (element) => Boolean(element.parentElement?.closest(".createagents-maths"));

    function look(element) {
      const tag = element.localName;
      const maths = isMaths(element);
      const say = (what) => note(`<${tag}> ${what}`, element);
      if (maths) {
        if (!(tag.startsWith("mjx-") || tag === "span" || element instanceof MathMLElement)) say("in a formula");
      } else if (!TAGS.has(tag) || !(element instanceof HTMLElement)) {
        say("is no element of ours");
      }
      if (tag === "button" && !element.className.startsWith("createagents-")) say("is no button of ours");
      if (tag === "a") {
        const href = element.getAttribute("href") ?? "";
        if (!/^(https?:|mailto:|#)/i.test(href)) say(`leads to ${href.slice(0, 60)}`);
        if (!href.startsWith("#") && !/^(https?|mailto):$/.test(element.protocol)) say(`leads to ${element.protocol}`);
        if (element.target !== "_blank" || !element.relList.contains("noopener")) say("opens no page of its own");
      }
      for (const { name, value } of element.attributes) {
        const isAddress = ADDRESSES.has(name) && !(tag === "img" && name === "src" && PICTURE.test(value));
        const isData = name.startsWith("data-") && !/^data-(lm|jp|mime)-/.test(name);
        if (/^on/i.test(name) || isAddress || (name === "href" && tag !== "a")) say(`has ${name}`);
        if (!maths && (name === "id" || isData)) say(`has ${name}`);
        if (name === "style" && (FETCHES.test(value) || (!maths && MOVES.test(value)))) say(`has the style ${value}`);
      }
      // What the notebook puts our output in has classes of its own; it numbers headings, and does so here with nothing.
      const isNumber = element.className === "numbering-entry" && !element.textContent;
      if (!maths && !roots.includes(element) && !isNumber) {
        for (const name of element.classList) if (!CLASS.test(name)) say(`is of class ${name}`);
      }
    }

    for (const root of roots) [root, ...root.querySelectorAll("*")].forEach(look);
    for (const part of document.querySelectorAll(around)) {
      for (const element of part.querySelectorAll(NEVER)) {
        const isFormula = isMaths(element) && element instanceof MathMLElement;
        if (!isFormula) note(`<${element.localName}> in the page`, element);
      }
    }
    return [...found].map(([what, { times, example }]) => `${what}, ${times} times: ${example}`);
  },

  /** Touch all of `scope` but plain links and our own buttons; run what would set payloads off if it found them. */
  provoke([scope, triggers]) {
    const PLAIN = /^(https?:\/\/|mailto:|#)/i;
    const roots = [...document.querySelectorAll(scope)];
    const isLeftAlone = (element) =>
      PLAIN.test(element.closest("a[href]")?.getAttribute("href") ?? "") ||
      element.closest('button[class^="createagents-"]');
    const all = (selector) =>
      roots.flatMap((root) => [...root.querySelectorAll(selector)]).filter((element) => !isLeftAlone(element));
    const unfold = () => all("details").forEach((details) => (details.open = true));

    unfold();
    const touched = all("*");
    for (const element of touched) {
      for (const type of ["pointerover", "mouseover", "mouseenter", "mousemove"]) {
        element.dispatchEvent(new MouseEvent(type));
      }
      if (element.matches("[tabindex], [href], summary, button, input, select, textarea, [contenteditable]")) {
        element.focus({ preventScroll: true });
        element.blur();
      }
      // A click goes up to whatever is around it.
      const isInnermost = !element.firstElementChild || element.matches("a, button, [data-commandlinker-command]");
      if (isInnermost) element.click?.();
    }
    unfold();

    const problems = [];
    const page = {
      getElementsByTagName: (name) => all(name),
      get forms() {
        return Object.assign(all("form"), Object.fromEntries(all("form[id]").map((form) => [form.id, form])));
      },
      get links() {
        return all("a[href], area[href]");
      },
      get body() {
        return roots[0];
      },
    };
    const names = ["document", "location", "frames", "pass", "fail", "fuzz"];
    for (const code of triggers) {
      try {
        const run = new Function(...names, `${code};\nreturn location.href ?? location`);
        const led = run(page, {}, all("iframe, frame"), () => problems.push(`passes: ${code}`), () => {}, () => {});
        if (typeof led === "string") problems.push(`leads to ${led}: ${code}`);
      } catch {
        // There is nothing to set off.
      }
    }
    return [touched.length, problems];
  },

  /** What the page had to fetch before is asked for before this; what waits for the next frame has come by. */
  async settle(url) {
    for (let frame = 0; frame < 2; frame += 1) await new Promise((done) => requestAnimationFrame(done));
    await fetch(url, { mode: "no-cors", cache: "no-store" });
  },
});
