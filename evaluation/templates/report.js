"use strict";
// The charts are static SVG. This adds a read-out of values under the pointer or arrow keys, and hides or shows curves.
for (const figure of document.querySelectorAll("[data-chart]")) {
  const data = JSON.parse(figure.dataset.chart);
  const svg = figure.querySelector("svg"), cursor = figure.querySelector(".cursor"), readout = figure.querySelector(".readout");
  const [left, right] = data.plot, first = data.x[0], last = data.x[data.x.length - 1];
  const hidden = new Set();
  let index = -1;
  const place = (x) => (last > first ? left + ((right - left) * (x - first)) / (last - first) : (left + right) / 2);
  const text = (tag, value) => { const node = document.createElement(tag); node.textContent = value; return node; };

  const show = (i) => {
    index = Math.max(0, Math.min(data.x.length - 1, i));
    const x = place(data.x[index]);
    cursor.setAttribute("x1", x); cursor.setAttribute("x2", x); cursor.setAttribute("visibility", "visible");
    readout.replaceChildren(text("b", `${data.xLabel} ${data.x[index]}`));
    data.series.forEach((series, s) => {
      if (hidden.has(s) || series.values[index] === null) return;
      const line = document.createElement("div"), dot = document.createElement("i");
      dot.className = `c${series.colour}`;
      line.append(dot, `${series.name} ${series.values[index]}`);
      readout.append(line);
    });
    readout.hidden = false;
    const share = x / svg.viewBox.baseVal.width, box = svg.getBoundingClientRect();
    readout.style.left = share < 0.5 ? `${share * box.width + 10}px` : "auto";
    readout.style.right = share < 0.5 ? "auto" : `${(1 - share) * box.width + 10}px`;
  };
  const hide = () => { readout.hidden = true; cursor.setAttribute("visibility", "hidden"); index = -1; };

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    let nearest = 0;
    data.x.forEach((value, i) => { if (Math.abs(place(value) - x) < Math.abs(place(data.x[nearest]) - x)) nearest = i; });
    show(nearest);
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (move) show(index < 0 ? (move > 0 ? 0 : data.x.length - 1) : index + move);
    else if (event.key === "Home") show(0);
    else if (event.key === "End") show(data.x.length - 1);
    else if (event.key === "Escape") hide();
    else return;
    event.preventDefault();
  });
  for (const button of figure.querySelectorAll("[data-toggle]")) {
    button.addEventListener("click", () => {
      const s = Number(button.dataset.toggle), off = !hidden.has(s);
      if (off) hidden.add(s); else hidden.delete(s);
      button.setAttribute("aria-pressed", String(!off));
      figure.querySelector(`g[data-series="${s}"]`).toggleAttribute("hidden", off);
    });
  }
}

// Gallery: filters.
const form = document.getElementById("filters");
if (form) {
  const cards = [...document.querySelectorAll("#gallery .card")];
  const inRange = {
    "": () => true, none: (r) => r === null, zero: (r) => r === 0, low: (r) => r > 0 && r < 0.5,
    high: (r) => r >= 0.5 && r < 1, one: (r) => r >= 1,
  };
  const apply = () => {
    let shown = 0;
    for (const card of cards) {
      const reward = card.dataset.reward === "" ? null : Number(card.dataset.reward);
      const fits = (!form.kind.value || card.dataset.kind === form.kind.value)
        && (!form.task.value || card.dataset.task === form.task.value)
        && (!form.when.value || card.dataset.when === form.when.value)
        && (form.reward.value === "" || (form.reward.value === "none") === (reward === null) && inRange[form.reward.value](reward));
      card.hidden = !fits;
      shown += fits;
    }
    for (const group of document.querySelectorAll("[data-group]")) group.hidden = !group.querySelector(".card:not([hidden])");
    document.getElementById("count").textContent = `${shown} of ${cards.length} answers`;
    document.getElementById("nothing").hidden = shown > 0;
  };
  form.addEventListener("change", apply);
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", (event) => event.preventDefault());
  apply(); // browsers may restore the form's state on reload
}

// Gallery: a larger view of one answer; the left and right arrow keys show its visible neighbours.
const dialog = document.getElementById("large");
let current = null;
const enlarge = (card) => {
  current = card;
  const copy = card.cloneNode(true), group = card.closest(".group");
  const figure = document.createElement("div");
  figure.append(...copy.querySelectorAll(".figure"));
  copy.querySelector(".zoom").remove();
  for (const details of copy.querySelectorAll("details")) details.open = true;
  dialog.querySelector("div").replaceChildren(group.querySelector(".prompt").cloneNode(true), group.querySelector(".gold-text").cloneNode(true), figure, ...copy.childNodes);
  if (!dialog.open) dialog.showModal();
};
for (const button of document.querySelectorAll(".zoom")) button.addEventListener("click", () => enlarge(button.closest(".card")));
dialog.querySelector(".close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => current?.querySelector(".zoom").focus());
dialog.addEventListener("keydown", (event) => {
  const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!move) return;
  const shown = [...document.querySelectorAll(".card:not([hidden])")].filter((card) => card.querySelector(".zoom"));
  const next = shown[shown.indexOf(current) + move];
  if (next) { enlarge(next); event.preventDefault(); }
});
