// Everything that a page says is there without this: here it becomes sortable and filterable.
"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const made = (name, values) => Object.assign(document.createElement(name), values);

// ---- tables: a click on a column's title sorts, a third one brings the first order back
const NEXT = {null: "ascending", ascending: "descending", descending: null};
const numberOf = cell => parseFloat(
  cell.dataset.value ?? cell.textContent.replaceAll(",", "").replace("\u2212", "-"));
function sortBy(table, heads, column) {
  const order = NEXT[heads[column].getAttribute("aria-sort")];
  for (const head of heads) head.removeAttribute("aria-sort");
  const rows = [...table.tBodies[0].rows].sort((a, b) => a.dataset.place - b.dataset.place);
  if (order) {
    heads[column].setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1, words = heads[column].classList.contains("words");
    rows.sort(({cells: {[column]: a}}, {cells: {[column]: b}}) => {
      if (words) return sign * a.textContent.localeCompare(b.textContent, "en", {numeric: true});
      const [x, y] = [numberOf(a), numberOf(b)];
      return isNaN(x) - isNaN(y) || sign * (x - y) || 0;  // what has no number comes last
    });
  }
  table.tBodies[0].append(...rows);
}
for (const table of all("table")) {
  const heads = all("thead th", table);
  [...table.tBodies[0].rows].forEach((row, place) => { row.dataset.place = place; });
  if (table.tBodies[0].rows.length < 2) continue;
  heads.forEach((head, column) => {
    const button = made("button", {type: "button"});
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(table, heads, column));
    head.append(button);
  });
}

// ---- the line to paste
for (const line of all(".paste")) {
  const button = made("button", {type: "button", textContent: "Copy"});
  button.addEventListener("click", () => {
    const range = document.createRange();
    range.selectNodeContents(line);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    document.execCommand("copy");  // works in a page that was opened as a file, too
    button.textContent = "Copied";
  });
  line.after(button);
}

// ---- settings: the legend and the form decide which rows and points are there
const data = document.getElementById("settings"), form = document.querySelector("form.filters");
const settings = data ? JSON.parse(data.textContent) : [], hiddenBuilds = new Set();
function fits(setting, field) {
  const limit = name => parseFloat(field[name].value);
  const words = field.words.value.toLowerCase().split(/\s+/).filter(Boolean);
  const name = setting.name.toLowerCase();
  return words.every(word => name.includes(word))
    && (isNaN(limit("p99")) || setting.p99 <= limit("p99"))
    && (isNaN(limit("rate")) || setting.rate >= limit("rate"))
    && (isNaN(limit("rss")) || setting.rss !== null && setting.rss <= limit("rss"))
    && (!field.meets.checked || setting.meets);
}
function filter() {
  const shown = settings.map(setting =>
    !hiddenBuilds.has(setting.build) && (!form || fits(setting, form.elements)));
  const builds = new Set(settings.filter((_, number) => shown[number]).map(({build}) => build));
  for (const part of all("[data-setting]"))
    part.classList.toggle("off", !shown[part.dataset.setting]);
  for (const part of all("tr[data-build], .chart [data-build]"))
    part.classList.toggle("off", !builds.has(Number(part.dataset.build)));
  if (form) form.querySelector("output").textContent =
    `${shown.filter(Boolean).length} of ${shown.length} settings shown`;
}
for (const item of all(".legend li")) {
  const button = made("button", {type: "button"}), build = Number(item.dataset.build);
  button.append(...item.childNodes);
  button.setAttribute("aria-pressed", "true");
  button.addEventListener("click", () => {
    const off = !hiddenBuilds.delete(build) && hiddenBuilds.add(build);
    button.setAttribute("aria-pressed", String(!off));
    filter();
  });
  item.append(button);
}
if (form) {
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("reset", () => {
    hiddenBuilds.clear();
    for (const button of all(".legend button")) button.setAttribute("aria-pressed", "true");
    setTimeout(filter);
  });
  filter();
}

// ---- a point's numbers beside it, and the same setting in all charts and tables
const tip = made("div", {className: "tip", hidden: true});
document.querySelector("main").append(tip);
for (const title of all(".chart g > title")) {
  title.parentNode.dataset.words = title.textContent;
  title.remove();
}
function light(setting) {
  for (const part of all(".hot")) part.classList.remove("hot");
  if (setting !== undefined)
    for (const part of all(`[data-setting="${setting}"]`)) part.classList.add("hot");
}
document.addEventListener("pointerover", event => {
  const part = event.target.closest("[data-words]"), row = event.target.closest("[data-setting]");
  light(row?.dataset.setting);
  tip.hidden = !part;
  if (!part) return;
  tip.textContent = part.dataset.words;
  const box = part.getBoundingClientRect(), wide = document.documentElement.clientWidth;
  const left = Math.min(box.right + 8, wide - tip.offsetWidth - 8);
  const below = box.bottom + 8 + tip.offsetHeight < innerHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${below ? box.bottom + 8 : box.top - 8 - tip.offsetHeight}px`;
});

// ---- the list of runs: two that are ticked are compared
const choice = document.querySelector(".choice"), chosen = [];
function choose() {
  const line = choice.firstElementChild, names = chosen.map(({dataset}) => dataset.run);
  const pair = all(".pairs li").find(({dataset: {first, second}}) =>
    names.length === 2 && names.includes(first) && names.includes(second));
  if (pair) line.replaceChildren("Chosen: ", pair.querySelector("a").cloneNode(true));
  else if (names.length < 2) line.textContent = "Tick two runs above to compare them.";
  else line.replaceChildren("No page of these two yet: ", made("code", {textContent:
    `paddlerec-milvus bench --compare ${chosen.map(({dataset}) => dataset.path).join(" ")} --open`}));
}
if (choice) {
  for (const run of all(".runs > li[data-run]")) {
    const label = made("label", {className: "tick"}), box = made("input", {type: "checkbox"});
    label.append(box, ` compare ${run.dataset.run}`);
    box.addEventListener("change", () => {
      if (box.checked) chosen.push(run);
      else chosen.splice(chosen.indexOf(run), 1);
      if (chosen.length > 2) chosen.shift().querySelector("input").checked = false;
      choose();
    });
    run.append(label);
  }
  choice.hidden = false;
  choose();
}
