// What the pages of an episode do (environment.py): switches, tabs, sliders, dialogs and lists answer to the mouse and the keyboard,
// and what was pressed is noted. Native fields, boxes and keys are the browser's own.
"use strict";
window.pageEvents = (() => {
  let pressed = [], held = null;
  const named = (e) => (e.closest("[data-item]") ? e.closest("[data-item]").dataset.item + ": " : "") + (e.getAttribute("aria-label") || e.textContent.trim());
  const enabled = (e) => e && !e.matches(":disabled");

  function closeDialog() {
    document.querySelectorAll(".dialog, .backdrop").forEach((e) => e.remove());
  }

  function press(button) {
    pressed.push(named(button));
    if (button.closest(".dialog")) closeDialog();
    if (button.closest(".toast")) button.closest(".toast").remove();
  }

  function slide(x) {
    const track = held.parentElement, box = track.getBoundingClientRect();
    const value = Math.min(100, Math.max(0, 5 * Math.round((20 * (x - box.left)) / box.width)));
    held.style.left = value + "%";
    track.setAttribute("aria-valuenow", value);
    track.nextElementSibling.textContent = value + " %";
  }

  document.addEventListener("mousedown", (event) => {
    const list = event.target.closest("select");
    if (list) { event.preventDefault(); if (enabled(list)) list.focus(); } // its pop-up is no part of the page
    held = event.target.closest(".thumb, .handle");
    if (held) event.preventDefault();
  });
  document.addEventListener("mousemove", (event) => { if (held && held.matches(".thumb")) slide(event.clientX); });
  document.addEventListener("mouseup", (event) => {
    const from = held && held.matches(".handle") ? held.closest("li") : null;
    const to = from && event.target.closest("li");
    if (to && to !== from) {
      const down = [...to.parentElement.children].indexOf(from) < [...to.parentElement.children].indexOf(to);
      to[down ? "after" : "before"](from);
    }
    held = null;
  });
  document.addEventListener("click", (event) => {
    const hit = event.target.closest("a, button");
    if (event.target.closest("a")) event.preventDefault();
    if (!enabled(hit) || hit.matches(".handle")) return;
    if (hit.matches("[role=switch]")) hit.setAttribute("aria-checked", String(hit.getAttribute("aria-checked") !== "true"));
    else if (hit.matches("[role=tab]")) for (const tab of hit.parentElement.children) tab.setAttribute("aria-selected", String(tab === hit));
    else press(hit);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && document.querySelector(".dialog")) closeDialog();
    const field = event.key === "Enter" && event.target.closest("input[type=text]");
    const send = field && (field.closest(".dialog") || field.closest("main")).querySelector("button.primary");
    if (enabled(send)) press(send);
  });

  // Scrolls what lies under a point, or else around it, as far as it goes; false if nothing can.
  function scroll(x, y, dx, dy) {
    const boxes = [];
    for (let e = document.elementFromPoint(x, y); e; e = e.parentElement) if (/auto|scroll/.test(getComputedStyle(e).overflow)) boxes.push(e);
    boxes.push(document.scrollingElement, ...document.querySelectorAll("[data-scroll]"));
    for (const box of boxes) {
      const before = [box.scrollLeft, box.scrollTop];
      box.scrollBy(dx, dy);
      if (box.scrollLeft !== before[0] || box.scrollTop !== before[1]) return true;
    }
    return false;
  }

  function choose(text) {
    const at = document.activeElement, has = (s) => enabled(s) && [...s.options].some((o) => o.text.trim().toLowerCase() === text);
    const lists = at && at.tagName === "SELECT" ? [at].filter(has) : [...document.querySelectorAll("select")].filter(has);
    if (lists.length !== 1) return lists.length;
    lists[0].selectedIndex = [...lists[0].options].findIndex((o) => o.text.trim().toLowerCase() === text);
    return 1;
  }

  // Whether text can be typed, in place of what is selected or at the end of what is there.
  function ready() {
    const at = document.activeElement;
    if (!at || !at.matches("textarea, input[type=text], input[type=search]")) return false;
    if (at.selectionStart === at.selectionEnd) at.setSelectionRange(at.value.length, at.value.length);
    return true;
  }

  return { scroll, choose, ready, pressed: () => pressed, start: () => { pressed = []; held = null; } };
})();
