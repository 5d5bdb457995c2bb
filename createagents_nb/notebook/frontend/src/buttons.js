// Our buttons, and what the clipboard takes.

/**
 * @param {string} label @param {string} name The end of its class. @param {string} title
 * @param {(button: HTMLButtonElement) => void} onClick
 */
export function button(label, name, title, onClick) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = `createagents-button createagents-${name}`;
  made.textContent = label;
  made.title = title;
  made.addEventListener("click", () => onClick(made));
  return made;
}

/** @param {() => string} text What to copy when it is clicked. */
export function copyAnswerButton(text) {
  return button("Copy", "copy-answer", "Copy the answer as Markdown", (made) => copy(made, text()));
}

/**
 * Give a block of code its button, once.
 * @param {Element} block A `.highlight`.
 */
export function addCopyCode(block) {
  const code = block.querySelector("code");
  if (!code || block.querySelector(".createagents-copy-code")) return;
  block.append(button("Copy", "copy-code", "Copy this code", (made) => copy(made, code.textContent ?? "")));
}

/** @param {Element} root @returns {void} */
export function addCopyCodes(root) {
  if (root.matches(".highlight")) addCopyCode(root);
  root.querySelectorAll(".highlight").forEach(addCopyCode);
}

/** @param {HTMLButtonElement} made @param {string} text */
async function copy(made, text) {
  const label = made.textContent;
  made.textContent = (await toClipboard(text)) ? "Copied" : "Not copied";
  setTimeout(() => (made.textContent = label), 1_500);
}

/** @param {string} text */
async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // A page that is not served securely has no clipboard of that kind.
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
 * While something in an element has the focus, a letter must not run a command of JupyterLab's, which looks at what has
 * it; Ctrl+S still saves.
 * @param {HTMLElement} root
 */
export function keepLetters(root) {
  /** @param {Event} event */
  function set(event) {
    const withCommand = event instanceof KeyboardEvent && (event.ctrlKey || event.metaKey);
    const isKept = event.type !== "focusout" && !withCommand;
    if (event.target instanceof HTMLElement) event.target.toggleAttribute("data-lm-suppress-shortcuts", isKept);
  }
  for (const type of ["focusin", "focusout", "keydown", "keyup"]) root.addEventListener(type, set);
}
