"use strict";
const all = (from, selector) => Array.from(from.querySelectorAll(selector));
const compare = (a, b) => {
  const x = parseFloat(a), y = parseFloat(b);
  return isNaN(x) || isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
};
for (const table of all(document, "table.sort")) {
  const body = table.tBodies[0], rows = Array.from(body.rows), heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    if (head.textContent === "Error") head.setAttribute("aria-sort", "descending");
    head.replaceChildren(button);
    button.onclick = () => {
      const falls = head.getAttribute("aria-sort") === "descending" || (i === 0 ? !head.hasAttribute("aria-sort") : false);
      const sign = falls ? 1 : -1, text = row => row.cells[i].textContent;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falls ? "ascending" : "descending");
      rows.sort((a, b) => sign * compare(text(a), text(b)));
      body.append(...rows);
    };
  });
  const filter = document.createElement("input"), count = document.createElement("span"), bar = document.createElement("p");
  filter.type = "search";
  filter.placeholder = "Filter, such as down_proj";
  filter.setAttribute("aria-label", "Filter layers");
  count.setAttribute("aria-live", "polite");
  filter.oninput = () => {
    const words = filter.value.toLowerCase().split(" ");
    rows.forEach(row => { row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word)); });
    count.textContent = rows.filter(row => !row.hidden).length + " of " + rows.length;
  };
  bar.className = "filter";
  bar.append(filter, count);
  table.parentNode.before(bar);
}
const open = () => {
  const row = document.getElementById(location.hash.slice(1)), folded = row ? row.closest("details") : null;
  if (folded) folded.open = true;
  if (row) { row.hidden = false; row.scrollIntoView({ block: "center" }); }
};
addEventListener("hashchange", open);
open();
for (const figure of all(document, "figure.chart")) {
  const points = all(figure, ".point"), shown = figure.querySelector(".shown");
  points.forEach((point, i) => {
    const show = () => { shown.textContent = point.querySelector("title").textContent; };
    point.onpointerenter = show;
    point.onfocus = show;
    point.onkeydown = event => {
      const next = points[i + ({ ArrowRight: 1, ArrowLeft: -1 }[event.key] || NaN)];
      if (next) { event.preventDefault(); next.focus(); }
    };
  });
  all(figure, ".key li").forEach((entry, i) => {
    const dim = on => all(figure, "[data-line]").forEach(line => line.classList.toggle("dim", on ? line.dataset.line !== String(i) : false));
    entry.onpointerenter = () => dim(true);
    entry.onpointerleave = () => dim(false);
  });
}
