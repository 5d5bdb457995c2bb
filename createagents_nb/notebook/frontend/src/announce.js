// What a screen reader is told: that an answer begins, and how it ended. The region is the page's, since a view is gone
// when its turn has ended.

/** @type {HTMLElement | undefined} */
let region;

/** @param {string} words */
export function announce(words) {
  if (!region?.isConnected) {
    region = document.createElement("div");
    region.setAttribute("role", "status");
    region.className = "createagents-announcer";
    document.body.append(region);
  }
  region.textContent = words;
}
