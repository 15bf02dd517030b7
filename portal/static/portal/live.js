// One socket per page. Elements say data-live="run-17" and carry hx-get with hx-trigger="changed, every 10s":
// when the server says that run-17 changed they fetch their fragment; without a socket they poll.
"use strict";

(() => {
  const base = document.body.dataset.liveUrl || location.origin.replace(/^http/, "ws");
  const subscribed = new Set();
  let socket = null;
  let dropped = false;
  let wait = 1000; // milliseconds, doubled up to a minute

  const watched = () => [...document.querySelectorAll("[data-live]")];
  const names = () => [...new Set(watched().map((element) => element.dataset.live))];
  const refresh = (name) => {
    if (!window.htmx) return;
    for (const element of watched()) {
      if (name === undefined || element.dataset.live === name) htmx.trigger(element, "changed");
    }
  };

  function subscribe() {
    const fresh = names().filter((name) => !subscribed.has(name));
    if (!socket) {
      if (fresh.length) open();
    } else if (fresh.length && socket.readyState === WebSocket.OPEN) {
      fresh.forEach((name) => subscribed.add(name));
      socket.send(JSON.stringify({ subscribe: fresh }));
    }
  }

  function open() {
    socket = new WebSocket(`${base}/ws/live/`);
    socket.addEventListener("open", () => {
      wait = 1000;
      subscribe();
      if (dropped) refresh(); // what changed while the line was down
    });
    socket.addEventListener("message", (event) => {
      const { changed } = JSON.parse(event.data);
      if (changed) refresh(changed);
    });
    socket.addEventListener("close", (event) => {
      socket = null;
      subscribed.clear();
      dropped = true;
      if (event.code === 4401 || event.code === 4403) return; // not signed in, or no longer
      setTimeout(subscribe, wait * (0.75 + Math.random() / 2));
      wait = Math.min(2 * wait, 60000);
    });
  }

  // A log follows its last line. Scrolled up it stays where its reader is, and a button leads back.
  const SLACK = 8; // pixels
  const logs = () => document.querySelectorAll(".log[data-follow]"); // of a run that has just ended as well
  let reading = null; // pixels from the top, of a reader who has scrolled up

  const toEnd = (log) => { log.scrollTop = log.scrollHeight; };
  const show = (log) => {
    log.nextElementSibling.hidden = reading === null;
  };
  const restore = () => logs().forEach((log) => {
    if (reading === null) toEnd(log);
    else log.scrollTop = reading;
    show(log);
  });

  document.addEventListener("scroll", ({ target }) => {
    if (!(target instanceof Element) || !target.matches(".log[data-follow]")) return;
    reading = target.scrollHeight - target.scrollTop - target.clientHeight > SLACK ? target.scrollTop : null;
    show(target);
  }, true);
  document.addEventListener("click", (event) => {
    const log = event.target.closest("[data-newest]")?.previousElementSibling;
    if (log) toEnd(log);
  });

  document.addEventListener("htmx:afterSettle", () => {
    subscribe();
    restore();
  });
  restore();
  subscribe();
})();
