// Scrolling: who sees the end of an answer goes on seeing it as it grows; who has scrolled away is left alone.

const NEAR_PX = 40;

/**
 * @param {HTMLElement} root What grows.
 * @returns {() => void} To end it.
 */
export function follow(root) {
  const scroller = scrollerOf(root);
  if (!scroller) return () => {};
  let follows = true;

  function below() {
    const view = /** @type {Element} */ (scroller);
    const bottom = view === document.scrollingElement ? window.innerHeight : view.getBoundingClientRect().bottom;
    return root.getBoundingClientRect().bottom - bottom;
  }
  // Where the end of the answer is in view it is followed, and where it stands above the view, nothing is.
  function look() {
    const distance = below();
    const height = /** @type {Element} */ (scroller).clientHeight;
    follows = distance <= NEAR_PX && distance > -height;
  }
  function grew() {
    const distance = below();
    if (follows && distance > 0) /** @type {Element} */ (scroller).scrollTop += Math.ceil(distance);
  }

  const target = scroller === document.scrollingElement ? document : scroller;
  const observer = new ResizeObserver(grew);
  look();
  observer.observe(root);
  target.addEventListener("scroll", look, { passive: true });
  return () => {
    observer.disconnect();
    target.removeEventListener("scroll", look);
  };
}

/** @param {Element} element @returns {Element | null} */
function scrollerOf(element) {
  for (let at = element.parentElement; at; at = at.parentElement) {
    if (/auto|scroll/.test(getComputedStyle(at).overflowY) && at.clientHeight > 0 && !isOutput(at)) return at;
  }
  return document.scrollingElement;
}

/** @param {Element} element Output areas have `overflow: auto` for what is too wide. */
function isOutput(element) {
  return element.scrollHeight <= element.clientHeight && Boolean(element.closest(".jp-OutputArea, .output"));
}
