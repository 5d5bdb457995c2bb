// What the tests ask a page about a turn that streams.

// One line a node. Aside: buttons, colours inside code, typeset maths, and what Lab adds to headings and links.
window.linesOf = (node, depth = "") => {
  if (node instanceof Text) {
    const isBetween = node.parentElement.matches(".createagents-turn") && !node.data.trim();
    return isBetween ? [] : [depth + JSON.stringify(node.data)];
  }
  if (node.matches("button, .numbering-entry")) return [];
  const attributes = [...node.attributes].filter(({ name }) => !(name === "rel" && node.matches("a")));
  const written = attributes.map(({ name, value }) => `${name}=${value}`).sort();
  const head = depth + [node.localName, ...written].join(" ");
  if (node.matches(".createagents-maths")) return [head];
  if (node.matches("code, .createagents-status")) return [head + " " + JSON.stringify(textOf(node))];
  return [head, ...[...node.childNodes].flatMap(child => linesOf(child, depth + " "))];
};
window.textOf = node => {
  const copy = node.cloneNode(true);
  copy.querySelectorAll("button").forEach(button => button.remove());
  return copy.textContent;
};

// The live views that are taken away from now on, as they were at the end.
window.keepEnded = () => {
  window.endedObserver?.disconnect();
  window.ended = [];
  window.endedObserver = new MutationObserver(records => {
    for (const { removedNodes } of records) for (const node of removedNodes) {
      const turn = node.querySelector?.(".createagents-live > .createagents-turn");
      if (turn) window.ended.push(turn);
    }
  });
  window.endedObserver.observe(document.body, { childList: true, subtree: true });
};

// What screen readers are told from now on.
window.keepTold = () => {
  window.told = [];
  const regions = "[role=status], [role=alert], [role=log], [aria-live]:not([aria-live=off])";
  new MutationObserver(records => {
    for (const { target } of records) {
      const region = (target instanceof Text ? target.parentElement : target)?.closest(regions);
      if (region?.textContent.trim()) window.told.push(region.textContent);
    }
  }).observe(document.body, { childList: true, characterData: true, subtree: true });
};

// Whether the focus falls back to the body, in any frame from now on.
window.watchFocus = () => {
  window.focusWasLost = false;
  const look = () => {
    window.focusWasLost ||= document.activeElement === document.body;
    requestAnimationFrame(look);
  };
  look();
};

// Texts whose contrast with what is behind them is below 4.5; colours in code are the theme's.
window.faint = root => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = color => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], behind) => [r, g, b].map((value, at) => a * value + (1 - a) * behind[at]);
  const behind = element => element
    ? over(rgba(getComputedStyle(element).backgroundColor), behind(element.parentElement)) : [255, 255, 255];
  const light = color => color.map(value => value / 255)
    .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
  const found = [];
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    const element = text.parentElement;
    if (!text.data.trim() || element.matches("code span")) continue;
    const background = behind(element);
    const [one, other] = [light(background), light(over(rgba(getComputedStyle(element).color), background))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) found.push(`${text.data.trim().slice(0, 40)}: ${contrast.toFixed(2)}`);
  }
  return found;
};

// What in an element moves by itself.
window.moving = root => [root, ...root.querySelectorAll("*")].filter(element => {
  const { animationName, transitionDuration } = getComputedStyle(element);
  return animationName !== "none" || !/^0s(, 0s)*$/.test(transitionDuration) || element.getAnimations().length;
}).map(element => element.outerHTML.slice(0, 80));

// Buttons and cards whose border cannot be seen.
window.borderless = root => {
  const page = getComputedStyle(document.body).backgroundColor;
  return [...root.querySelectorAll("button, .createagents-tool, .createagents-reasoning")].filter(element => {
    const { borderTopStyle, borderTopWidth, borderTopColor, opacity } = getComputedStyle(element);
    return borderTopStyle !== "solid" || parseFloat(borderTopWidth) < 1 || borderTopColor === page || opacity !== "1";
  }).map(element => element.outerHTML.slice(0, 80));
};

// By how many pixels an element is wider than the room it has.
window.overflow = element => element.scrollWidth - element.clientWidth;
