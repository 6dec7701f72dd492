// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// Two lists side by side: whose they are, which items are in one alone, which have moved.

import { thumb } from "./cover.js";
import { byId, element } from "./element.js";
import { t } from "./language.js";
import { badge } from "./show.js";
import { facts, nameOf, scoreText, whoseText } from "./words.js";

/** What to compare with: the choices of `#compare`, as the service has them. */
export function drawChoices(told, chosen) {
  const [name, value] = chosen.split(":");
  const parameters = told?.search ?? {};
  const choices = [
    ["", t("compare_nothing")],
    ["exact", t("compare_exact")],
    ...(told?.before ? [["before", `${t("compare_before")} (${whoseText(told.before)})`]] : []),
    ...Object.keys(parameters).map((key) => [key, t("compare_parameter", { name: key })]),
    ["popular", t("compare_popular")],
  ];
  if (!choices.some(([key]) => key === name)) choices.push([name, name]); // of an address
  const select = byId("compare");
  select.replaceChildren(...choices.map(([key, text]) => element("option", { value: key }, text)));
  select.value = name;
  const number = byId("compare-value");
  number.hidden = !value && !(name in parameters);
  number.value = value ?? parameters[name] ?? "";
  number.setAttribute("aria-label", t("compare_value", { name }));
}

/** The state's `compare` for what is chosen; a parameter starts at twice its value, or a half. */
export function choiceOf(name, told) {
  const set = told?.search?.[name];
  return set === undefined ? name : `${name}:${set > 1 ? Math.floor(set / 2) : 2}`;
}

/** What differs between two lists, in words. */
export function differenceText(left, right) {
  const ids = right.map(({ id }) => id);
  let first = 0;
  while (first < left.length && left[first].id === ids[first]) first += 1;
  if (first === left.length && first === right.length) return t("all_same");
  const both = left.filter(({ id }) => ids.includes(id)).length;
  const count = Math.max(left.length, right.length);
  const alone = { left: left.length - both, right: right.length - both };
  const places = first ? t("first_same", { count: first }) : t("first_differs");
  return `${t("both", { both, count, ...alone })} ${places}`;
}

/** Both lists, the one that is served first; `details` gives what is known of an item. */
export function drawBeside(serving, items, other, compare, details) {
  const lists = [items, other.items];
  const places = lists.map((list) => new Map(list.map(({ id }, at) => [id, at])));
  const titles = [t("serves"), otherTitle(compare)];
  const tables = [facts(serving), facts(other.whose)];
  const columns = lists.map((list, side) =>
    element(
      "section",
      { "aria-labelledby": `beside-${side}` },
      element("h3", { id: `beside-${side}` }, titles[side]),
      whose(tables[side], tables[1 - side]),
      element(
        "ol",
        { class: "rows" },
        ...list.map((item, at) => {
          return rowOf(details(item), at, moved(at, places[1 - side].get(item.id)));
        }),
      ),
    ),
  );
  byId("beside-text").textContent = differenceText(...lists);
  byId("beside-lists").replaceChildren(...columns);
}

function otherTitle(compare) {
  const [name, value] = compare.split(":");
  return value ? t("by_parameter", { name, value }) : t(`by_${name}`);
}

/** Model, data and index; what differs from the other's is marked. */
function whose(rows, others) {
  const there = new Map(others.map(([key, , value]) => [key, value]));
  const cells = rows.filter(([key]) => there.has(key)).flatMap(([key, name, value]) => [
    element("dt", {}, name),
    element("dd", {}, there.get(key) === value ? value : element("mark", {}, value)),
  ]);
  return element("dl", { class: "table" }, ...cells);
}

/** An item of a list, with a mark of how it has moved: its kind and its words. */
export function rowOf(item, at, [kind, text]) {
  return element(
    "li",
    { "data-id": item.id, "data-move": kind },
    element("span", { class: "place" }, `${at + 1}`),
    element(
      "button",
      { type: "button", class: "row about", title: nameOf(item) },
      thumb(item),
      element("span", { class: "title" }, nameOf(item)),
    ),
    badge(item.interest),
    element("span", { class: "score" }, item.score === null ? "" : scoreText(item.score)),
    element("span", { class: "move" }, text),
  );
}

function moved(at, elsewhere) {
  if (elsewhere === undefined) return ["alone", t("only_here")];
  if (elsewhere === at) return ["level", t("level")];
  const count = Math.abs(elsewhere - at);
  return elsewhere > at ? ["higher", t("higher", { count })] : ["lower", t("lower", { count })];
}
