// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// The page: its state, which lies in the address after #, and what changes it.

import * as calls from "./calls.js";
import { byId, element } from "./element.js";
import { searchBox } from "./search.js";
import { drawCards, drawLegend, drawPicked, drawTiming, nameOf, showOnly } from "./show.js";
import { exampleOf, headline, modelText, sourceText, troubleText } from "./words.js";

const DEFAULTS = { picked: [], topK: 50, diversity: 0, exclude: true };
const MOST_PICKED = 100;
const DIVERSITIES = [0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]; // λ; its scale is the scores'
const PAUSE = 120; // milliseconds after a slider's last move

let state = stateOf(location.hash);
let asked = new AbortController();
let only = null; // the interest that alone is shown
let examples = 0; // given so far
let ready = true; // what the service said of itself last
const known = new Map(); // items by id, of all answers

function stateOf(hash) {
  const given = new URLSearchParams(hash.slice(1));
  const number = (name, least, most, otherwise) => {
    const value = given.has(name) ? Number(given.get(name)) : NaN;
    return Number.isFinite(value) ? Math.min(most, Math.max(least, value)) : otherwise;
  };
  const ids = given.getAll("picked").flatMap(idsOf);
  return {
    picked: [...new Set(ids)].slice(-MOST_PICKED),
    topK: Math.round(number("top_k", 10, 100, DEFAULTS.topK) / 10) * 10,
    diversity: nearest(DIVERSITIES, number("diversity", 0, Infinity, DEFAULTS.diversity)),
    exclude: given.get("exclude_history") !== "false",
  };
}

/** Ids with their commas and percent signs written as %2C and %25, joined by commas. */
function idsOf(text) {
  return text
    .split(",")
    .filter(Boolean)
    .map((id) => id.replace(/%2C/g, ",").replace(/%25/g, "%"));
}

function encodedId(id) {
  return encodeURIComponent(id.replace(/%/g, "%25").replace(/,/g, "%2C"));
}

function nearest(values, wanted) {
  const closer = (best, each) => (Math.abs(each - wanted) < Math.abs(best - wanted) ? each : best);
  return values.reduce(closer);
}

function hashOf({ picked, topK, diversity, exclude }) {
  const parts = [];
  if (picked.length) parts.push(`picked=${picked.map(encodedId).join(",")}`);
  if (topK !== DEFAULTS.topK) parts.push(`top_k=${topK}`);
  if (diversity !== DEFAULTS.diversity) parts.push(`diversity=${diversity}`);
  if (!exclude) parts.push("exclude_history=false");
  return parts.length ? `#${parts.join("&")}` : location.pathname;
}

/** Take a change; a pick makes an entry in the browser's history, a setting does not. */
function change(part) {
  state = { ...state, ...part };
  if ("picked" in part) {
    only = null; // other picks, other interests
    window.history.pushState(null, "", hashOf(state));
  } else window.history.replaceState(null, "", hashOf(state));
  draw();
  refresh();
}

function draw() {
  drawPicked(state.picked.map((id) => known.get(id) ?? nameless(id)));
  byId("top-k").value = state.topK;
  byId("top-k-value").textContent = state.topK;
  byId("diversity").value = DIVERSITIES.indexOf(state.diversity);
  byId("diversity-value").textContent = state.diversity || "off";
  byId("diversity").setAttribute("aria-valuetext", state.diversity || "off");
  byId("exclude").checked = state.exclude;
  byId("welcome").hidden = state.picked.length > 0;
  byId("another").hidden = !(examples && state.picked.length);
  byId("key-used").hidden = !calls.hasKey();
}

/** Ask for candidates; an answer that comes after a newer question is dropped. */
async function refresh() {
  asked.abort();
  const mine = new AbortController();
  asked = mine;
  byId("results").setAttribute("aria-busy", "true");
  try {
    const found = await calls.candidatesFor(state, mine.signal);
    if (asked === mine) showFound(found);
    await nameUnknown(mine.signal);
  } catch (error) {
    if (asked === mine) showTrouble(error);
  } finally {
    if (asked === mine) byId("results").setAttribute("aria-busy", "false");
  }
}

/** Titles of picks that came with the address alone. */
async function nameUnknown(signal) {
  const missing = state.picked.filter((id) => !known.has(id));
  if (!missing.length) return;
  remember(await calls.titlesOf(missing, signal));
  for (const id of missing) known.set(id, known.get(id) ?? nameless(id));
}

const nameless = (id) => ({ id, title: null, category: null });

function remember(items) {
  const named = items.some(({ id }) => state.picked.includes(id) && !known.has(id));
  for (const item of items) known.set(item.id, item);
  if (named) draw();
}

function showFound(found) {
  remember(found.items);
  if (found.items.length) askForCategories(found.items.some((item) => item.category));
  byId("trouble").hidden = true;
  if (!found.items.some((item) => item.interest === only)) only = null;
  drawCards(found.items);
  drawLegend(found.nearest, found.items, only);
  showOnly(only);
  drawTiming(found.stages, found.roundTrip);
  if (found.source === "fallback" || !ready) tellModel();
  byId("headline").textContent = headline(found);
  byId("source").textContent = sourceText(found, state.picked.length);
  byId("said").textContent = `${headline(found)}: ${found.items.length}. ${byId("source").textContent}`;
}

/** Without categories there is nothing to be diverse in. */
function askForCategories(there) {
  byId("diversity").disabled = !there;
  byId("diversity-hint").textContent = there
    ? "Higher: more categories near the top."
    : "It works by categories, and these items have none.";
}

function showTrouble(error) {
  if (!(error instanceof calls.CallError)) throw error;
  const [title, text] = troubleText(error, calls.hasKey());
  const earlier = byId("cards").children.length ? "What is below is of an earlier answer." : "";
  byId("trouble-title").textContent = title;
  byId("trouble-text").textContent = `${text} ${earlier}`;
  byId("retry").hidden = error.kind === "key";
  byId("key-form").hidden = error.kind !== "key";
  byId("trouble").hidden = false;
  if (error.kind === "key") byId("key").focus();
  if (error.kind === "away") tellModel();
}

function pick(item) {
  remember([item]);
  const others = state.picked.filter((id) => id !== item.id);
  change({ picked: [...others, item.id].slice(-MOST_PICKED) });
  byId("said").textContent = `Picked ${nameOf(item)}`;
}

function unpick(id) {
  const at = state.picked.indexOf(id);
  change({ picked: state.picked.filter((other) => other !== id) });
  const left = byId("picked").children;
  (left[Math.min(at, left.length - 1)]?.querySelector("button") ?? byId("search")).focus();
}

async function example() {
  try {
    const popular = await calls.titlesWith("", 100, asked.signal);
    remember(popular);
    const picked = exampleOf(popular, examples);
    examples += 1;
    change({ picked });
  } catch (error) {
    if (!asked.signal.aborted) showTrouble(error);
  }
}

async function tellModel() {
  const line = byId("model");
  try {
    const told = await calls.readiness();
    ready = told.ready;
    line.replaceChildren(element("span", { class: `light ${ready ? "on" : "off"}` }));
    line.append(modelText(told));
  } catch {
    ready = false;
    line.replaceChildren(element("span", { class: "light off" }), "No answer");
  }
}

function retry() {
  tellModel();
  refresh();
}

function onSlider(name, slider, valueOf) {
  let timer = 0;
  slider.addEventListener("input", () => {
    state = { ...state, [name]: valueOf(Number(slider.value)) };
    draw();
    clearTimeout(timer);
    timer = setTimeout(() => change({ [name]: state[name] }), PAUSE);
  });
}

function onCards(event) {
  const card = event.target.closest("li");
  if (card) pick(known.get(card.dataset.id));
}

function onLegend(event) {
  const entry = event.target.closest("button");
  if (!entry) return;
  const interest = Number(entry.dataset.interest);
  only = only === interest ? null : interest;
  showOnly(only);
}

function onKey(event) {
  event.preventDefault();
  calls.useKey(byId("key").value);
  byId("key").value = "";
  draw();
  retry();
}

function start() {
  searchBox(byId("search"), byId("found"), {
    find: calls.titlesWith,
    pick,
    fail: showTrouble,
  });
  onSlider("topK", byId("top-k"), (value) => value);
  onSlider("diversity", byId("diversity"), (value) => DIVERSITIES[value]);
  byId("exclude").addEventListener("change", (event) => change({ exclude: event.target.checked }));
  byId("cards").addEventListener("click", onCards);
  byId("legend").addEventListener("click", onLegend);
  byId("picked").addEventListener("click", (event) => {
    if (event.target.closest("button")) unpick(event.target.closest("li").dataset.id);
  });
  byId("clear").addEventListener("click", () => {
    change({ picked: [] });
    byId("search").focus();
  });
  byId("example").addEventListener("click", example);
  byId("another").addEventListener("click", example);
  byId("to-search").addEventListener("click", () => byId("search").focus());
  byId("retry").addEventListener("click", retry);
  byId("key-form").addEventListener("submit", onKey);
  byId("key-forget").addEventListener("click", () => {
    calls.forgetKey();
    draw();
    retry();
  });
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address after # is the state
    byId("results").focus();
  });
  window.addEventListener("popstate", () => {
    state = stateOf(location.hash);
    draw();
    refresh();
  });
  byId("settings").open = window.matchMedia("(min-width: 52rem)").matches;
  draw();
  retry();
}

start();
