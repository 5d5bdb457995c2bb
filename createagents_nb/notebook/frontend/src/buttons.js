// Buttons, and copying to the clipboard.

/**
 * @param {string} label @param {string} name The suffix of its class. @param {string} title
 * @param {(button: HTMLButtonElement) => void} onClick
 */
export function button(label, name, title, onClick) {
  const element = document.createElement("button");
  element.type = "button";
  element.className = `createagents-button createagents-${name}`;
  element.textContent = label;
  element.title = title;
  element.addEventListener("click", () => onClick(element));
  return element;
}

/** @param {() => string} text Returns the text to copy, when clicked. */
export function copyAnswerButton(text) {
  return button("Copy", "copy-answer", "Copy the answer as Markdown", (clicked) => copy(clicked, text()));
}

/**
 * Add a copy button to a block of code, unless it has one.
 * @param {Element} block A `.highlight`.
 */
export function addCopyCode(block) {
  const code = block.querySelector("code");
  if (!code || block.querySelector(".createagents-copy-code")) return;
  block.append(button("Copy", "copy-code", "Copy this code", (clicked) => copy(clicked, code.textContent ?? "")));
}

/** @param {Element} root @returns {void} */
export function addCopyCodes(root) {
  if (root.matches(".highlight")) addCopyCode(root);
  root.querySelectorAll(".highlight").forEach(addCopyCode);
}

/** @param {HTMLButtonElement} clicked @param {string} text */
async function copy(clicked, text) {
  const label = clicked.textContent;
  clicked.textContent = (await toClipboard(text)) ? "Copied" : "Not copied";
  setTimeout(() => (clicked.textContent = label), 1_500);
}

/** @param {string} text */
async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // The Clipboard API exists in secure contexts only.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "createagents-announcer";
    document.body.append(area);
    const focused = /** @type {HTMLElement | null} */ (document.activeElement);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return done;
  }
}

/**
 * Keep JupyterLab from taking letters for commands while something in an element has the focus; Ctrl+S still saves.
 * @param {HTMLElement} root
 */
export function suppressShortcuts(root) {
  /** @param {Event} event */
  function update(event) {
    const hasModifier = event instanceof KeyboardEvent && (event.ctrlKey || event.metaKey);
    const isSuppressed = event.type !== "focusout" && !hasModifier;
    if (event.target instanceof HTMLElement) event.target.toggleAttribute("data-lm-suppress-shortcuts", isSuppressed);
  }
  for (const type of ["focusin", "focusout", "keydown", "keyup"]) root.addEventListener(type, update);
}
