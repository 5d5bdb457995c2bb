// Announcements for screen readers: an answer begins, and how it ended. The live region belongs to the page, because a
// view is removed when its turn has ended.

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
