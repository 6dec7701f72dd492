// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// The ranked list beside the model's own order, and why an item stands where it does.

import * as calls from "./calls.js";
import { rowOf } from "./compare.js";
import { byId, element } from "./element.js";
import { knows, t } from "./language.js";
import { nameOf } from "./words.js";

const SHOWN = 10; // of each list
const PLAIN = { diversity: 0, quota: 0, exclude: true }; // what a ranked list is ranked from

let hasRanker = true; // until an answer says that the model has none

/** Ask again whether there is a ranker: the service may have another model now. */
export function expectRanker() {
  hasRanker = true;
}

/** {items, source, own}: the ranked list and the model's own; null: there is nothing to rank.
    `candidates` is the promise of the list by the page's settings. */
export async function rankedFor(state, candidates, signal) {
  if (!state.picked.length || !hasRanker) return null;
  const isPlain = Object.keys(PLAIN).every((key) => state[key] === PLAIN[key]);
  const [ranked, own] = await Promise.all([
    calls.rankedFor(state, signal),
    isPlain ? candidates : calls.candidatesFor({ ...state, ...PLAIN }, signal),
  ]);
  hasRanker = ranked.ranker !== null;
  return hasRanker ? { ...ranked, own } : null;
}

/** Where the item `id` stands, and why; undefined: it is not in a ranked list. */
export function standingOf(ranked, id) {
  const at = isRanked(ranked) ? ranked.items.findIndex((item) => item.id === id) : -1;
  return at < 0 ? undefined : { ...ranked.items[at], at };
}

const isRanked = (ranked) => ["ranked", "other_channels"].includes(ranked?.source);

/** Draw both lists, or say why there is one alone; `details` gives what is known of an item. */
export function drawRanked(ranked, picked, details) {
  byId("no-ranker").hidden = hasRanker || !picked.length;
  byId("ranked").hidden = !ranked || !(isRanked(ranked) || ranked.source === "unranked");
  if (byId("ranked").hidden) return;
  byId("ranked-text").textContent = t(`is_${ranked.source}`);
  const lists = [];
  if (isRanked(ranked)) {
    lists.push(["by_ranker", ranked.items, (item, at) => movedTo(item, at, ranked.source)]);
  }
  if (ranked.source === "ranked" && ranked.own.source === "model") {
    lists.push(["by_model", ranked.own.items, (item, at) => movedFrom(item, at, ranked.items)]);
  }
  byId("ranked-lists").replaceChildren(
    ...lists.map(([title, items, moved]) =>
      element(
        "section",
        { "aria-labelledby": `title-${title}` },
        element("h4", { id: `title-${title}` }, t(title)),
        element(
          "ol",
          { class: "rows" },
          ...items.slice(0, SHOWN).map((item, at) => {
            return rowOf({ ...details(item), score: null }, at, moved(item, at));
          }),
        ),
      ),
    ),
  );
}

/** How an item of the ranked list has moved from its place in the model's own order. */
function movedTo({ channels }, at, source) {
  if (source !== "ranked") return ["level", ""];
  if (!channels.interests) return ["alone", t("other_channels")];
  const count = channels.interests - 1 - at;
  if (!count) return ["level", t("level")];
  return count > 0 ? ["higher", t("higher", { count })] : ["lower", t("lower", { count: -count })];
}

/** Where an item of the model's own order went. */
function movedFrom({ id }, at, items) {
  const place = items.findIndex((item) => item.id === id);
  if (place < 0) return ["lower", t("ranked_below", { place: items.length })];
  if (place === at) return ["level", t("level")];
  return [place < at ? "higher" : "lower", t("ranked_at", { place: place + 1 })];
}

/** Why an item stands where it does: what moved it, who had it, which click it follows. */
export function standingWords({ at, channels, follows, why }, details) {
  const before = channels.interests;
  const first = { place: at + 1, before };
  return [
    element("p", {}, t(before ? "stands_before" : "stands_new", first)),
    ...(follows ? [followed(details({ id: follows }))] : []),
    ...(why?.length ? [element("h4", {}, t("moved_by")), movesOf(why)] : []),
    element("h4", {}, t("had_by")),
    element(
      "ul",
      { class: "channels" },
      ...Object.entries(channels).map(([name, place]) =>
        element(
          "li",
          {},
          element("span", {}, wordsOf("channel", name)),
          element("span", { class: "score" }, t("at_place", { place })),
        ),
      ),
    ),
  ];
}

function followed(click) {
  const [start, end] = t("follows", { name: "\n" }).split("\n");
  return element("p", {}, start, element("b", { class: "title" }, nameOf(click)), end);
}

/** A bar for each group of features, to the right where it put the item higher. */
function movesOf(why) {
  const most = Math.max(...why.map(({ contribution }) => Math.abs(contribution)));
  return element(
    "ul",
    { class: "moves" },
    ...why.map(({ group, contribution }) => {
      const bar = element("span", { "data-sign": contribution > 0 ? "plus" : "minus" });
      bar.style.width = `${(50 * Math.abs(contribution)) / most}%`;
      const number = `${contribution > 0 ? "+" : "−"}${Math.abs(contribution).toFixed(2)}`;
      return element(
        "li",
        {},
        element("span", {}, wordsOf("moved", group)),
        element("span", { class: "track", "aria-hidden": "true" }, bar),
        element("span", { class: "score" }, number),
      );
    }),
  );
}

/** A channel or a group of features in words; its own name, where it is one that came later. */
function wordsOf(kind, name) {
  const key = `${kind}_${name}`;
  return knows(key) ? t(key) : name;
}
