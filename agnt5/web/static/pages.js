// Makes pages live. Everything works without it: forms are forms, links are links.
"use strict";

(() => {
  const root = document.documentElement;
  const POLL_MS = 5000;
  const CALM_MS = 250;
  let asked = false;
  let busy = false;
  let source = null;

  // What somebody types, or has typed and not sent yet, is not taken away.
  const typedIn = (region) => {
    const at = document.activeElement;
    const there = at && region.contains(at) && at.matches("input, textarea, select");
    return there || region.querySelector("form[data-touched]");
  };

  // Take over the regions of a fresh copy of this page that changed, but none that somebody types in.
  const take = (fresh) => {
    for (const region of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(region.id);
      if (!next || region.innerHTML === next.innerHTML || typedIn(region)) continue;
      const open = new Map([...region.querySelectorAll("details[id]")].map((one) => [one.id, one.open]));
      region.replaceChildren(...document.adoptNode(next).childNodes);
      for (const one of region.querySelectorAll("details[id]")) if (open.has(one.id)) one.open = open.get(one.id);
    }
    document.title = fresh.title;
    root.dataset.events = fresh.documentElement.dataset.events || "";
    root.dataset.poll = fresh.documentElement.dataset.poll || "";
    if (source && !root.dataset.events) {
      source.close();
      source = null;
      root.dataset.stream = "ended";
    }
  };

  const refresh = async () => {
    if (busy) { asked = true; return; }
    busy = true;
    const begun = performance.now();
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
      if (answer.ok && !answer.redirected) take(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch { /* the next time may go better */ }
    setTimeout(() => {
      busy = false;
      if (asked) { asked = false; refresh(); }
    }, Math.max(CALM_MS, 2 * (performance.now() - begun))); // a page that is costly to make is asked for less often
  };

  const listen = () => {
    source = new EventSource(root.dataset.events);
    source.onopen = () => { root.dataset.stream = "open"; };
    source.onmessage = refresh;
    for (const name of root.dataset.eventNames.split(" ")) source.addEventListener(name, refresh);
    source.onerror = () => { root.dataset.stream = "lost"; };
  };

  if (root.dataset.events) listen();
  setInterval(() => {
    if (root.dataset.poll && document.visibilityState === "visible") refresh();
  }, POLL_MS);
  addEventListener("pagehide", () => { if (source) source.close(); });

  addEventListener("input", (event) => {
    if (event.target.form) event.target.form.dataset.touched = "yes";
  });

  // A decision or a cancel is asked for once, however often the button is pressed.
  addEventListener("submit", (event) => {
    if (event.target.dataset.sent) event.preventDefault();
    event.target.dataset.sent = "yes";
  });
  addEventListener("pageshow", (event) => {
    for (const form of document.forms) {
      delete form.dataset.sent;
      delete form.dataset.touched;
    }
    if (event.persisted && root.dataset.events) listen();
  });
})();
