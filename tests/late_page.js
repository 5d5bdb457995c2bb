// A page that is late, without a clock: what it has to do is held back until the test lets it go on.

// Messages from kernels; from the start, in a page that is loaded again.
const isHeld = name => location.protocol.startsWith("http") && sessionStorage.getItem(name) !== null;
window.holdsMessages = isHeld("holdMessages");
window.heldMessages = [];
window.letMessagesGo = () => {
  sessionStorage.removeItem("holdMessages");
  window.holdsMessages = false;
  while (window.heldMessages.length) window.heldMessages.shift()();
};
const { get, set } = Object.getOwnPropertyDescriptor(WebSocket.prototype, "onmessage");
Object.defineProperty(WebSocket.prototype, "onmessage", {
  configurable: true,
  get,
  set(handler) {
    set.call(this, event => {
      if (window.holdsMessages) window.heldMessages.push(() => handler.call(this, event));
      else handler.call(this, event);
    });
  },
});

// The widget manager looks for a model every 100 ms, for two seconds. Here its last look comes when two seconds have
// passed and all models have arrived, as in a page that was busy in between.
window.heldLooks = [];
let skippedMs = 0;
const { setTimeout: later } = window;
const { now } = Date;
Date.now = () => now() + skippedMs;
if (isHeld("holdLooks")) {
  window.setTimeout = (callback, ms, ...more) =>
    ms === 100 && window.heldLooks ? window.heldLooks.push(() => callback(...more)) : later(callback, ms, ...more);
}
window.letLooksGo = () => {
  sessionStorage.removeItem("holdLooks");
  const looks = window.heldLooks;
  window.heldLooks = null;
  skippedMs = 10_000;
  looks.forEach(look => look());
  return looks.length;
};
window.hasFrontend = () => Object.keys(window).some(name => name.startsWith("createagents-nb "));
