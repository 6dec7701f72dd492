// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// What was picked and what was found, drawn.

import { cover, thumb } from "./cover.js";
import { byId, element } from "./element.js";
import { t } from "./language.js";
import { namesApart } from "./naming.js";
import { letterOf, nameOf, scoreText } from "./words.js";

const COLOURS = 4; // as many as page.css has; a further interest has its letter and an old colour
const STAGES = ["tower", "search", "merge"];

/** The letter of an interest on its colour; nothing for none. */
export function badge(interest) {
  const known = interest !== null && interest !== undefined;
  const colour = { "data-colour": known ? interest % COLOURS : "none" };
  const node = element("span", { class: "badge", ...colour }, known ? letterOf(interest) : "");
  node.hidden = !known;
  return node;
}

/** The picked items, oldest first, each with a button to remove it. */
export function drawPicked(items) {
  const list = byId("picked");
  const grows = items.length > list.children.length;
  list.replaceChildren(...items.map(pickedRow));
  if (grows) list.scrollTo(list.scrollWidth, list.scrollHeight); // the newest one is in sight
  byId("picked-count").textContent = items.length || "";
  byId("picked-none").hidden = items.length > 0;
  byId("clear").hidden = !items.length;
}

function pickedRow(item) {
  const name = nameOf(item);
  return element(
    "li",
    { "data-id": item.id },
    thumb(item),
    element("span", { class: "text" }, element("span", { class: "title" }, name)),
    element("button", { type: "button", "aria-label": t("remove", { name }) }, "×"),
  );
}

/** The found items as cards; those that were there before stay the same elements. */
export function drawCards(items) {
  const list = byId("cards");
  const before = new Map([...list.children].map((card) => [card.dataset.id, card]));
  const focused = [...list.children].indexOf(document.activeElement?.closest("#cards > li"));
  list.replaceChildren(...items.map((item) => coloured(before.get(`${item.id}`), item)));
  if (focused >= 0) list.children[Math.min(focused, items.length - 1)]?.firstChild.focus();
}

/** Cards that are there, anew: more is known of their items, or the language has changed. */
export function redrawCards(items) {
  const at = [...byId("cards").children].indexOf(document.activeElement?.closest("#cards > li"));
  const about = document.activeElement?.classList.contains("about");
  byId("cards").replaceChildren();
  drawCards(items);
  byId("cards").children[at]?.querySelector(about ? ".about" : "button").focus();
}

function coloured(card, item) {
  const drawn = card ?? cardOf(item);
  drawn.dataset.interest = item.interest ?? "none";
  drawn.dataset.colour = item.interest === null ? "none" : item.interest % COLOURS;
  drawn.querySelector(".badge").replaceWith(badge(item.interest));
  drawn.querySelector(".score").textContent = item.score === null ? "" : scoreText(item.score);
  drawn.firstChild.setAttribute("aria-label", spoken(item));
  return drawn;
}

function cardOf(item) {
  const name = nameOf(item);
  return element(
    "li",
    { "data-id": item.id },
    element(
      "button",
      { type: "button", class: "card", title: name },
      element("span", { class: "frame" }, cover(item), badge(null)),
      element("span", { class: "title" }, name),
      item.authors ? element("span", { class: "by" }, item.authors) : null,
      element(
        "span",
        { class: "facts" },
        element("span", { class: "category" }, item.category ?? ""),
        element("span", { class: "score" }),
      ),
    ),
    element(
      "button",
      { type: "button", class: "quiet about", "aria-label": t("details_of", { name }) },
      t("details"),
    ),
  );
}

function spoken(item) {
  const parts = [nameOf(item), item.authors, item.category];
  if (item.interest !== null) parts.push(t("spoken_interest", { letter: letterOf(item.interest) }));
  if (item.score !== null) parts.push(t("spoken_score", { score: scoreText(item.score) }));
  return parts.filter(Boolean).join(", ");
}

/** A button for each interest: its letter, what tells it from the others, how many it found. */
export function drawLegend(nearest, items, only) {
  const legend = byId("legend");
  const focused = document.activeElement?.dataset?.interest;
  const lists = nearest.map((near, at) => [...near, ...items.filter((item) => item.interest === at)]);
  const names = namesApart(lists);
  const leads = new Set();
  const entries = nearest.map((near, interest) => {
    // interests may lie near one item: the nearest one that names no other comes first
    const lead = near.find((item) => !leads.has(item.id)) ?? near[0];
    leads.add(lead?.id);
    const titles = [lead, ...near.filter((item) => item !== lead)].filter(Boolean).map(nameOf);
    const words = [names[interest], ...titles].filter(Boolean);
    return entryOf(words, interest, lists[interest].length - near.length, only);
  });
  legend.replaceChildren(...entries);
  legend.hidden = !entries.length;
  if (legend.contains(document.activeElement) || focused === undefined) return;
  legend.querySelector(`button[data-interest="${focused}"]`)?.focus();
}

function entryOf(names, interest, count, only) {
  return element(
    "button",
    {
      type: "button",
      title: names.join("\n"),
      "data-interest": interest,
      "data-colour": interest % COLOURS,
      "aria-pressed": String(only === interest),
      ...(count ? {} : { disabled: "" }),
    },
    badge(interest),
    element(
      "span",
      { class: "names" },
      element("span", { class: "first" }, names[0] ?? t("interest", { letter: letterOf(interest) })),
      element("span", { class: "others" }, names.slice(1).join(" · ")),
    ),
    element("span", { class: "unseen" }, t("interest_found", { count })),
    element("span", { class: "count", "aria-hidden": "true" }, `${count}`),
  );
}

/** Show only the cards of one interest; null: all. */
export function showOnly(only) {
  for (const card of byId("cards").children) {
    card.hidden = only !== null && card.dataset.interest !== `${only}`;
  }
  for (const entry of byId("legend").children) {
    entry.setAttribute("aria-pressed", String(entry.dataset.interest === `${only}`));
  }
}

/** Milliseconds of each stage, and of what the browser waited besides, as one bar. */
export function drawTiming(stages, roundTrip) {
  const known = STAGES.map((name) => stages.find((stage) => stage.name === name)).filter(Boolean);
  const rest = roundTrip - known.reduce((sum, stage) => sum + stage.took, 0);
  const parts = [...known, { name: "rest", took: Math.max(0, rest) }];
  const said = ({ name }) => t(name === "search" ? "search_stage" : name);
  const bar = element("span", { class: "bar", "aria-hidden": "true" });
  for (const { name, took } of parts) {
    const part = element("span", { "data-stage": name });
    part.style.flexGrow = took;
    bar.append(part);
  }
  const key = parts.map((part) =>
    element(
      "span",
      { class: "stage", "data-stage": part.name },
      `${said(part)} `,
      element("b", {}, milliseconds(part.took)),
    ),
  );
  const whole = milliseconds(roundTrip);
  const text = parts.map((part) => `${said(part)} ${milliseconds(part.took)}`).join(", ");
  byId("timing").replaceChildren(
    element("span", { class: "unseen" }, t("round_trip", { took: whole, parts: text })),
    element(
      "span",
      { class: "line", "aria-hidden": "true" },
      bar,
      element("span", { class: "whole" }, `${whole} ms`),
    ),
    known.length ? element("span", { class: "key", "aria-hidden": "true" }, ...key) : "",
  );
  byId("timing").hidden = false;
}

const milliseconds = (took) => took.toFixed(took < 10 ? 1 : 0);
