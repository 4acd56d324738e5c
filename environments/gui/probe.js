// Put into the one page of the browser (screen.py): shows a body, and lists its elements as the browser sees them.
"use strict";
window.onsight = (() => {
  const WANTED = "a[href],button,input,select,textarea,h1,h2,h3,th,td,p,[role],[data-item],[data-role]";
  const TEXTS = new Set(["heading", "paragraph"]);
  const ROLES = {
    A: "link", BUTTON: "button", SELECT: "combobox", TEXTAREA: "textbox", H1: "heading", H2: "heading", H3: "heading",
    TH: "columnheader", TD: "cell", P: "paragraph", LI: "listitem", TR: "row", FIELDSET: "group",
  };
  const INPUTS = { checkbox: "checkbox", radio: "radio", search: "searchbox", range: "slider", button: "button", submit: "button" };

  // What moves by itself would make two screenshots of one state differ: the caret blinks.
  const still = document.head.appendChild(document.createElement("style"));
  still.textContent = "*, *::before, *::after { caret-color: transparent !important; transition: none !important; animation: none !important }";
  const style = document.head.appendChild(document.createElement("style"));

  // Replaces the page. data-scroll on a box: how far it is scrolled down, from 0 to 1; data-scroll-x: to the right. On the body's
  // first element they are the window's. data-focus: has the focus.
  function show(css, body, lang) {
    if (document.activeElement) document.activeElement.blur();
    style.textContent = css;
    document.documentElement.lang = lang;
    document.body.innerHTML = body;
    window.scrollTo(0, 0);
    for (const box of document.querySelectorAll("[data-scroll]")) {
      const target = box === document.body.firstElementChild && !clips(box) ? document.scrollingElement : box;
      target.scrollTop = Math.round(box.dataset.scroll * (target.scrollHeight - target.clientHeight));
      target.scrollLeft = Math.round((box.dataset.scrollX || 0) * (target.scrollWidth - target.clientWidth));
    }
    const focus = document.querySelector("[data-focus]");
    if (focus) focus.focus({ preventScroll: true });
  }

  // Role and name by the rules of ARIA (w3.org/TR/accname), for the HTML that our pages are made of. Chromium's own computedRole and
  // computedName agree (a test compares), but each of their calls takes milliseconds.
  function role(element) {
    return element.getAttribute("role") || (element.tagName === "INPUT" ? INPUTS[element.type] || "textbox" : ROLES[element.tagName]) || "";
  }

  function text(node) {
    if (node.nodeType === Node.TEXT_NODE) return node.data;
    if (node.nodeType !== Node.ELEMENT_NODE || /^(INPUT|SELECT|TEXTAREA)$/.test(node.tagName)) return "";
    return [...node.childNodes].map(text).join("");
  }

  function name(element, its) {
    const label = element.getAttribute("aria-label");
    if (label) return label;
    if (element.labels && element.labels.length) return [...element.labels].map(text).join(" ");
    if (its === "group") return element.querySelector("legend")?.textContent || "";
    if (/^(textbox|searchbox|combobox|slider|checkbox|radio|dialog|menu|listitem|row|status|alert|tablist|menubar|toolbar)$/.test(its)) return element.placeholder || "";
    return text(element);
  }

  const clips = (box) => getComputedStyle(box).overflow !== "visible";

  // What is left of a box inside the window and the scrolled boxes around the element; whoever is on the way of `absolute` and
  // `fixed` elements without being their containing block does not cut them.
  function clipped(element, box) {
    let [x1, y1, x2, y2] = box;
    let position = getComputedStyle(element).position;
    for (let up = element.parentElement; up && up !== document.body && position !== "fixed"; up = up.parentElement) {
      const its = getComputedStyle(up);
      if (position === "absolute" && its.position === "static") continue;
      if (its.overflowX !== "visible" || its.overflowY !== "visible") {
        const r = up.getBoundingClientRect();
        const left = r.left + up.clientLeft, top = r.top + up.clientTop;
        x1 = Math.max(x1, left); y1 = Math.max(y1, top);
        x2 = Math.min(x2, left + up.clientWidth); y2 = Math.min(y2, top + up.clientHeight);
      }
      position = its.position;
    }
    const root = document.documentElement;
    return [Math.max(x1, 0), Math.max(y1, 0), Math.min(x2, root.clientWidth), Math.min(y2, root.clientHeight)];
  }

  // Where an element is that cannot be seen at all, from what can be seen.
  function beyond(box, seen) {
    if (seen[3] <= seen[1]) return box[1] >= seen[3] ? "down" : "up";
    return box[0] >= seen[2] ? "right" : "left";
  }

  const area = (b) => Math.max(0, b[2] - b[0]) * Math.max(0, b[3] - b[1]);
  const rect = (r) => [r.left, r.top, r.right, r.bottom];

  function textBox(element) {
    const range = document.createRange();
    range.selectNodeContents(element);
    return rect(range.getBoundingClientRect());
  }

  // Share of probed points of a box at which the element is on top: a grid, the middles of the sides, and the middle of what each
  // element above the page's flow may cover.
  function onTop(element, box, above) {
    const [x1, y1, x2, y2] = box;
    const at = (fx, fy) => [x1 + (x2 - x1) * fx, y1 + (y2 - y1) * fy];
    const points = [0.2, 0.5, 0.8].flatMap((fx) => [0.2, 0.5, 0.8].map((fy) => at(fx, fy)));
    points.push(at(0.03, 0.5), at(0.97, 0.5), at(0.5, 0.04), at(0.5, 0.96));
    for (const [cover, c] of above) {
      if (cover.contains(element) || element.contains(cover)) continue;
      const both = [Math.max(x1, c[0]), Math.max(y1, c[1]), Math.min(x2, c[2]), Math.min(y2, c[3])];
      if (area(both) > 0) points.push([(both[0] + both[2]) / 2, (both[1] + both[3]) / 2]);
    }
    const hits = points.filter(([x, y]) => {
      const hit = document.elementFromPoint(x, y);
      return hit && (hit === element || element.contains(hit));
    });
    return hits.length / points.length;
  }

  function state(element) {
    const aria = (name) => { const v = element.getAttribute("aria-" + name); return v === null ? undefined : v === "true"; };
    const box = element.type === "checkbox" || element.type === "radio";
    const found = {
      disabled: element.matches(":disabled") || aria("disabled") || false,
      focused: document.activeElement === element,
      checked: box ? element.checked : aria("checked"),
      selected: aria("selected"), expanded: aria("expanded"), pressed: aria("pressed"),
      value: element.tagName === "SELECT" ? element.selectedOptions[0]?.text
        : element.tagName === "TEXTAREA" || (element.tagName === "INPUT" && !box) ? element.value
        : element.getAttribute("aria-valuenow") ?? undefined,
      options: element.tagName === "SELECT" ? [...element.options].map((o) => o.text) : undefined,
      placeholder: element.placeholder || undefined,
    };
    return found;
  }

  // Every element with a role: boxes in CSS pixels.
  function elements() {
    const wanted = [...document.body.querySelectorAll(WANTED)];
    const above = [...document.body.querySelectorAll("[data-above]")].map((e) => [e, rect(e.getBoundingClientRect())]);
    const found = [];
    for (const element of wanted) {
      const own = element.getBoundingClientRect();
      if (!own.width || !own.height || getComputedStyle(element).visibility === "hidden") continue;
      const its = role(element);
      if (!its && !element.dataset.role) continue;
      const box = TEXTS.has(its) ? textBox(element) : rect(own);
      const seen = clipped(element, box);
      const group = element.closest("[data-item]");
      const label = element.labels && element.labels.length === 1 && element.labels[0].contains(element) ? element.labels[0] : null;
      const visible = area(seen) / area(box);
      found.push({
        role: element.dataset.role || its,
        name: (name(element, its) || element.dataset.item || "").replace(/\s+/g, " ").trim(),
        box, seen, inside: visible,
        top: visible > 0 ? onTop(element, seen, above) : 0,
        beyond: visible > 0 ? null : beyond(box, seen),
        lines: element.getClientRects().length,
        item: group && group !== element ? group.dataset.item : null,
        label: label ? rect(label.getBoundingClientRect()) : null,
        label_top: label ? onTop(label, clipped(label, rect(label.getBoundingClientRect())), above) : null,
        state: state(element),
        data: { ...element.dataset },
      });
    }
    return found;
  }

  return { show, elements };
})();
