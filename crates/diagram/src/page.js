"use strict";
const list = document.getElementById("list");
const bodies = () => Array.from(list.tBodies);
const toggle = (row) => {
  const detail = row.nextElementSibling;
  detail.hidden = !detail.hidden;
  row.setAttribute("aria-expanded", String(!detail.hidden));
};
list.addEventListener("click", (event) => {
  const row = event.target.closest(".row");
  if (row && !String(getSelection())) toggle(row);
});
list.addEventListener("keydown", (event) => {
  if ((event.key === "Enter" || event.key === " ") && event.target.matches(".row")) {
    event.preventDefault();
    toggle(event.target);
  }
});
const heads = Array.from(list.tHead.rows[0].cells);
heads.forEach((head, column) => head.addEventListener("click", () => {
  const down = head.getAttribute("aria-sort") === "ascending";
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = (body) => {
    const cell = body.rows[0].cells[column];
    return cell.dataset.key === undefined ? cell.textContent : Number(cell.dataset.key);
  };
  const order = (a, b) => typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
  bodies().sort((a, b) => order(key(a), key(b)) * (down ? -1 : 1)).forEach((body) => list.append(body));
}));
const filter = document.getElementById("filter");
const shown = document.getElementById("shown");
const apply = () => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  bodies().forEach((body) => {
    const text = body.rows[0].textContent.toLowerCase();
    body.hidden = !words.every((word) => text.includes(word));
    if (!body.hidden) count += 1;
  });
  shown.textContent = count + " of " + bodies().length;
};
filter.addEventListener("input", apply);
apply();
if (bodies().length === 1 || location.hash === "#open") toggle(bodies()[0].rows[0]);
