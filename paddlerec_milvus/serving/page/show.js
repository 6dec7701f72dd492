// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// What was picked and what was found, drawn.

import { cover } from "./cover.js";
import { byId, element } from "./element.js";

const COLOURS = 4; // as many as page.css has; a further interest has its letter and an old colour
const STAGES = ["tower", "search", "merge"];

export const nameOf = (item) => item.title ?? `Item ${item.id}`;
export const letterOf = (interest) => String.fromCharCode(65 + interest);

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
  return element(
    "li",
    { "data-id": item.id },
    cover(item),
    element("span", { class: "text" }, element("span", { class: "title" }, nameOf(item))),
    element("button", { type: "button", "aria-label": `Remove ${nameOf(item)}` }, "×"),
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

function coloured(card, item) {
  const drawn = card ?? cardOf(item);
  const badge = drawn.querySelector(".badge");
  drawn.dataset.interest = item.interest ?? "none";
  drawn.dataset.colour = item.interest === null ? "none" : item.interest % COLOURS;
  badge.hidden = item.interest === null;
  badge.textContent = item.interest === null ? "" : letterOf(item.interest);
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
      { type: "button", title: name },
      element("span", { class: "frame" }, cover(item), element("span", { class: "badge" })),
      element("span", { class: "title" }, name),
      element(
        "span",
        { class: "facts" },
        element("span", { class: "category" }, item.category ?? ""),
        element("span", { class: "score" }),
      ),
    ),
  );
}

function spoken(item) {
  const interest = item.interest === null ? "" : `, interest ${letterOf(item.interest)}`;
  const score = item.score === null ? "" : `, score ${scoreText(item.score)}`;
  return `${nameOf(item)}${item.category ? `, ${item.category}` : ""}${interest}${score}`;
}

const scoreText = (score) => score.toFixed(Math.abs(score) < 100 ? 3 : 1);

/** A button for each interest: its letter, its nearest items, how many it found. */
export function drawLegend(nearest, items, only) {
  const legend = byId("legend");
  const focused = document.activeElement?.dataset?.interest;
  const count = (interest) => items.filter((item) => item.interest === interest).length;
  const leads = new Set();
  const entries = nearest.map((near, interest) => {
    // interests may lie near one item: the nearest one that names no other comes first
    const lead = near.find((item) => !leads.has(item.id)) ?? near[0];
    leads.add(lead?.id);
    const names = [lead, ...near.filter((item) => item !== lead)].filter(Boolean).map(nameOf);
    return entryOf(names, interest, count(interest), only);
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
    element("span", { class: "badge" }, letterOf(interest)),
    element(
      "span",
      { class: "names" },
      element("span", { class: "first" }, names[0] ?? `Interest ${letterOf(interest)}`),
      element("span", { class: "others" }, names.slice(1).join(" · ")),
    ),
    element("span", { class: "count", "aria-label": `found ${count}` }, `${count}`),
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
  const parts = [...known, { name: "the rest", took: Math.max(0, rest) }];
  const text = parts.map(({ name, took }) => `${name} ${milliseconds(took)}`).join(", ");
  const bar = element("span", { class: "bar", "aria-hidden": "true" });
  for (const { name, took } of parts) {
    const part = element("span", { "data-stage": name.replace("the ", "") });
    part.style.flexGrow = took;
    bar.append(part);
  }
  const key = parts.map(({ name, took }) =>
    element(
      "span",
      { class: "stage", "data-stage": name.replace("the ", "") },
      `${name} `,
      element("b", {}, milliseconds(took)),
    ),
  );
  const whole = element("span", { class: "whole" }, `${milliseconds(roundTrip)} ms`);
  byId("timing").replaceChildren(
    element("span", { class: "unseen" }, `Round trip ${milliseconds(roundTrip)} ms: ${text}.`),
    element("span", { class: "line", "aria-hidden": "true" }, bar, whole),
    known.length ? element("span", { class: "key", "aria-hidden": "true" }, ...key) : "",
  );
  byId("timing").hidden = false;
}

const milliseconds = (took) => took.toFixed(took < 10 ? 1 : 0);
