// Scrolling: the end of a growing answer stays in view if the reader is there; a reader who scrolled away is left alone.

const AT_THE_END_PX = 2;

/**
 * @param {HTMLElement} root The growing element.
 * @returns {() => void} Stops following.
 */
export function follow(root) {
  /** @type {Element | null} */
  let scroller = null;
  let follows = true;
  let top = 0;

  /** @param {Element} view */
  function bottomOf(view) {
    return view === document.scrollingElement ? window.innerHeight : view.getBoundingClientRect().bottom;
  }
  /** @param {Element} view @returns {number} The distance from its lower edge down to the end of the answer. */
  function below(view) {
    return root.getBoundingClientRect().bottom - bottomOf(view);
  }

  function scrolled() {
    if (!scroller) return;
    const distance = below(scroller);
    const isInView = distance > -scroller.clientHeight;
    if (scroller.scrollTop < top) follows = isInView && distance <= 0;
    else if (distance <= AT_THE_END_PX || !isInView) follows = isInView;
    top = scroller.scrollTop;
  }

  function grew() {
    if (!root.isConnected) return; // not in the page yet
    if (!scroller) {
      scroller = scrollerOf(root);
      if (!scroller) return;
      follows = root.getBoundingClientRect().top < bottomOf(scroller);
      target().addEventListener("scroll", scrolled, { passive: true });
    }
    const distance = below(scroller);
    if (follows && distance > 0) scroller.scrollTop += Math.ceil(distance);
    top = scroller.scrollTop;
  }

  function target() {
    return !scroller || scroller === document.scrollingElement ? document : scroller;
  }

  const observer = new ResizeObserver(grew);
  observer.observe(root);
  return () => {
    observer.disconnect();
    target().removeEventListener("scroll", scrolled);
  };
}

/** @param {Element} element @returns {Element | null} */
function scrollerOf(element) {
  for (let at = element.parentElement; at; at = at.parentElement) {
    if (/auto|scroll/.test(getComputedStyle(at).overflowY) && at.clientHeight > 0 && !isOutput(at)) return at;
  }
  return document.scrollingElement;
}

/** @param {Element} element Whether it is an output area, which scrolls sideways only. */
function isOutput(element) {
  return element.scrollHeight <= element.clientHeight && Boolean(element.closest(".jp-OutputArea, .output"));
}
