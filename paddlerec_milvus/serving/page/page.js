// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// The page: its state, which lies in the address after #, and what changes it.

import * as calls from "./calls.js";
import { choiceOf, drawBeside, drawChoices } from "./compare.js";
import { prepareDetails, showDetails } from "./details.js";
import { byId, element } from "./element.js";
import { drawFilters } from "./filters.js";
import { switchLanguage, t, translatePage } from "./language.js";
import { drawRanked, expectRanker, rankedFor, standingOf } from "./ranked.js";
import { searchBox } from "./search.js";
import { drawSettings, prepareSettings } from "./settings.js";
import { drawCards, drawLegend, drawPicked, drawTiming, redrawCards, showOnly } from "./show.js";
import { hashOf, MOST_PICKED, stateOf } from "./state.js";
import { exampleOf, facts, headline, modelText, nameOf, sourceText, troubleText } from "./words.js";

let state = stateOf(location.hash);
let asked = new AbortController();
let only = null; // the interest that alone is shown
let examples = 0; // given so far
let told = { ready: true }; // what the service said of itself last; null: nothing
let found = null; // the last answer, and what was set beside it
let beside = null;
let ranked = null;
let choices = null; // what the list can be compared with
let filters = { total: 0, categories: [] };
const known = new Map(); // items by id, of all answers

/** Take a change; a pick makes an entry in the browser's history, a setting does not. */
function change(part) {
  state = { ...state, ...part };
  if (part.picked) {
    only = null; // other picks, other interests
    history.pushState(null, "", hashOf(state));
  } else history.replaceState(null, "", hashOf(state));
  draw();
  refresh();
}

function draw() {
  drawPicked(state.picked.map(itemOf));
  drawSettings(state);
  byId("welcome").hidden = state.picked.length > 0;
  byId("another").hidden = !(examples && state.picked.length);
  byId("key-used").hidden = !calls.hasKey();
  drawFilters(filters, state.categories);
  drawChoices(choices, state.compare);
}

/** Ask for candidates; an answer that comes after a newer question is dropped. */
async function refresh() {
  asked.abort();
  const mine = new AbortController();
  asked = mine;
  byId("results").setAttribute("aria-busy", "true");
  try {
    const other = state.compare ? calls.alternativeFor(state, mine.signal) : null;
    other?.catch(() => {}); // told below, after what the first call has to say
    const candidates = calls.candidatesFor(state, mine.signal);
    const ranking = rankedFor(state, candidates, mine.signal);
    ranking.catch(() => {});
    const answer = await candidates;
    if (asked === mine) showFound(answer);
    const lists = await ranking;
    if (asked === mine) showRanked(lists);
    const second = await other;
    if (asked === mine) showBeside(second);
    await learn(mine);
  } catch (error) {
    if (asked === mine) showTrouble(error);
  } finally {
    if (asked === mine) byId("results").setAttribute("aria-busy", "false");
  }
}

/** Titles, authors and years that the answers did not hold. */
async function learn(mine) {
  const lists = [found.items, beside?.items ?? [], ranked?.items ?? [], found.nearest.flat()];
  const ids = [...state.picked, ...lists.flat().map(({ id }) => id)];
  const missing = [...new Set(ids)].filter((id) => known.get(id)?.authors === undefined);
  if (!missing.length) return;
  const items = await calls.titlesOf(missing, mine.signal);
  remember(items);
  for (const id of missing) known.set(id, { authors: null, year: null, ...itemOf(id) });
  if (asked !== mine) return;
  if (items.some((item) => item.authors || item.year)) redraw();
  else showRanked(ranked);
}

const itemOf = (id) => known.get(id) ?? { id, title: null, category: null };

/** The item of a list with all that is known of it. */
const detailed = (item) => ({ ...known.get(item.id), ...item });

function remember(items) {
  const named = items.some(({ id }) => state.picked.includes(id) && !known.has(id));
  for (const { score, interest, ...item } of items) known.set(item.id, { ...itemOf(item.id), ...item });
  if (named) draw();
}

function showFound(answer) {
  found = answer;
  remember(found.items);
  if (found.items.length) askForCategories(found.items.some((item) => item.category));
  byId("trouble").hidden = true;
  if (!found.items.some((item) => item.interest === only)) only = null;
  drawCards(found.items.map(detailed));
  drawAround();
  if (found.source === "fallback" || !told?.ready) tellModel();
  say();
}

/** For those who do not see the list. */
function say() {
  byId("said").textContent = `${headline(found)}: ${found.items.length}. ${byId("source").textContent}`;
}

/** What stands about the cards. */
function drawAround() {
  drawLegend(found.nearest.map((near) => near.map(detailed)), found.items.map(detailed), only);
  showOnly(only);
  drawTiming(found.stages, found.roundTrip);
  byId("headline").textContent = headline(found);
  byId("source").textContent = sourceText(found, state.picked.length);
}

function showRanked(lists) {
  ranked = lists;
  remember((ranked?.items ?? []).map(({ id, title }) => ({ id, title })));
  drawRanked(ranked, state.picked, detailed);
}

/** Open what is known of an item that is in a list. */
function show(item) {
  showDetails(detailed(item), state.picked, toggle, standingOf(ranked, item.id), detailed);
}

function showBeside(answer) {
  beside = answer;
  byId("beside").hidden = !beside;
  byId("cards").hidden = Boolean(beside);
  if (!beside) return;
  byId("legend").hidden = true;
  remember(beside.items);
  const name = state.compare.split(":")[0];
  const set = choices?.search[name]; // its own value, where another is compared
  const serving = set ? { ...told, index: `${told.index}, ${name} ${set}` } : told;
  drawBeside(serving ?? {}, found.items, beside, state.compare, detailed);
}

/** Draw all anew that is there: more is known of the items, or the language is another. */
function redraw() {
  draw();
  if (!found) return;
  redrawCards(found.items.map(detailed));
  drawAround();
  showRanked(ranked);
  showBeside(beside);
}

/** Without categories there is nothing to be diverse in. */
function askForCategories(there) {
  byId("diversity").disabled = !there;
  byId("diversity-hint").textContent = t(there ? "diversity_hint" : "no_categories");
}

function showTrouble(error) {
  if (!(error instanceof calls.CallError)) throw error;
  const [title, text] = troubleText(error, calls.hasKey());
  const earlier = byId("cards").children.length ? t("earlier") : "";
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
  byId("said").textContent = t("was_picked", { name: nameOf(item) });
}

function unpick(id) {
  const at = state.picked.indexOf(id);
  change({ picked: state.picked.filter((other) => other !== id) });
  const left = byId("picked").children;
  (left[Math.min(at, left.length - 1)]?.querySelector("button") ?? byId("search")).focus();
}

function toggle(item) {
  if (state.picked.includes(item.id)) unpick(item.id);
  else pick(item);
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
  try {
    told = await calls.readiness();
  } catch {
    told = null;
  }
  drawModel();
}

function drawModel() {
  const light = element("span", { class: `light ${told?.ready ? "on" : "off"}` });
  byId("model").replaceChildren(light, told ? modelText(told) : t("no_answer"));
  const rows = told ? facts(told) : [];
  const cells = rows.flatMap(([, name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
  byId("whose-facts").replaceChildren(...cells);
  if (beside) showBeside(beside);
}

/** What the settings offer; where that cannot be had, the candidates' own call says why. */
async function learnChoices() {
  const { signal } = new AbortController();
  const none = () => null;
  const [categories, alternatives] = await Promise.all([
    calls.categories(signal).catch(none),
    told?.ready ? calls.alternatives(signal).catch(none) : null,
  ]);
  filters = categories ?? filters;
  choices = alternatives ?? choices;
  draw();
  if (beside) showBeside(beside);
}

async function retry() {
  expectRanker();
  refresh();
  await tellModel();
  await learnChoices();
}

function onCards(event) {
  const card = event.target.closest("li");
  if (!card) return;
  const item = found.items.find(({ id }) => id === card.dataset.id);
  if (event.target.closest(".about")) show(item);
  else pick(detailed(item));
}

/** A row of two lists side by side; what is said of its item is what the list served says. */
function onRow(event, lists) {
  const row = event.target.closest("button") && event.target.closest("li");
  if (row) show(lists.flat().find(({ id }) => id === row.dataset.id));
}

/** The first list that has an item says of which interest it is, and with which score. */
function onRanked(event) {
  const others = ranked.items.map((item) => ({ ...item, score: null }));
  onRow(event, [found.items, ranked.own.items, others]);
}

function onLegend(event) {
  const entry = event.target.closest("button");
  if (!entry) return;
  const interest = Number(entry.dataset.interest);
  only = only === interest ? null : interest;
  showOnly(only);
}

function onCompareValue(event) {
  const value = Number(event.target.value);
  const name = state.compare.split(":")[0];
  if (Number.isInteger(value) && value > 0) change({ compare: `${name}:${value}` });
}

function onKey(event) {
  event.preventDefault();
  calls.useKey(byId("key").value);
  byId("key").value = "";
  draw();
  retry();
}

function inOtherLanguage() {
  switchLanguage();
  translatePage();
  askForCategories(!byId("diversity").disabled);
  drawModel();
  redraw();
  if (found) say();
}

/** A slider moves: show its value; what it changes is asked for when it rests. */
function move(part) {
  state = { ...state, ...part };
  draw();
}

function prepareComparison() {
  byId("compare").addEventListener("change", (event) => {
    change({ compare: choiceOf(event.target.value, choices) });
  });
  byId("compare-value").addEventListener("change", onCompareValue);
}

function start() {
  translatePage();
  searchBox(byId("search"), byId("found"), {
    find: calls.titlesWith,
    pick,
    fail: showTrouble,
  });
  prepareSettings(move, change);
  prepareComparison();
  prepareDetails();
  byId("cards").addEventListener("click", onCards);
  byId("beside").addEventListener("click", (event) => onRow(event, [found.items, beside.items]));
  byId("ranked").addEventListener("click", onRanked);
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
  byId("language").addEventListener("click", inOtherLanguage);
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address after # is the state
    byId("results").focus();
  });
  window.addEventListener("popstate", () => {
    state = stateOf(location.hash);
    draw();
    refresh();
  });
  draw();
  retry();
}

start();
