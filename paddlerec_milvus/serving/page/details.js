// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// One item in a dialog: what is known of it, and why it is in the list.

import * as calls from "./calls.js";
import { cover } from "./cover.js";
import { byId, element } from "./element.js";
import { t } from "./language.js";
import { standingWords } from "./ranked.js";
import { badge } from "./show.js";
import { letterOf, nameOf, scoreText, troubleText, yearText } from "./words.js";

let asked = new AbortController();

/** Open the dialog for `item`; `toggle` picks it, or takes it out of the picks. `standing` is where
    it is in the ranked list, if it is there; `details` gives what is known of another item. */
export function showDetails(item, picked, toggle, standing, details) {
  const dialog = byId("about");
  const isPicked = picked.includes(item.id);
  const name = nameOf(item);
  const button = element(
    "button",
    { type: "button", class: "strong" },
    t(isPicked ? "remove" : "pick", { name }),
  );
  button.addEventListener("click", () => {
    dialog.close();
    toggle(item);
  });
  const why = element("div", { class: "why", "aria-live": "polite" });
  byId("about-text").replaceChildren(
    element("h2", { id: "about-title" }, name),
    factsOf(item),
    element("h3", {}, t("why")),
    ...(standing ? [element("div", { class: "why" }, ...standingWords(standing, details))] : []),
    why,
    element("p", { class: "actions" }, button),
  );
  byId("about-cover").replaceChildren(cover(item));
  dialog.showModal();
  explain(item, picked, isPicked, why, standing);
}

/** Close the dialog and forget what was asked for it. */
export function prepareDetails() {
  const dialog = byId("about");
  dialog.addEventListener("close", () => asked.abort());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside it
  });
  byId("about-close").addEventListener("click", () => dialog.close());
}

function factsOf(item) {
  const rows = {
    authors: item.authors,
    year: item.year && yearText(item.year),
    category: item.category,
    id: item.id,
  };
  const known = Object.entries(rows).filter(([, value]) => value);
  return element(
    "dl",
    { class: "table" },
    ...known.flatMap(([key, value]) => [
      element("dt", {}, t(`fact_${key}`)),
      element("dd", {}, value),
    ]),
  );
}

async function explain(item, picked, isPicked, why, standing) {
  asked.abort();
  asked = new AbortController();
  if (!picked.length || (item.score === null && !isPicked && !standing)) {
    why.replaceChildren(element("p", {}, t("why_popular")));
    return;
  }
  why.replaceChildren(element("p", { class: "soft" }, t("why_asking")));
  const { signal } = asked;
  try {
    const found = await calls.explain(picked, item.id, signal);
    why.replaceChildren(...reasons(item, isPicked, found, standing));
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof calls.CallError)) throw error;
    why.replaceChildren(element("p", {}, troubleText(error, calls.hasKey()).join(" ")));
  }
}

function reasons(item, isPicked, { interest, scores, clicks }, standing) {
  const finder = item.interest ?? interest; // with a quota another one may have been let
  if (finder === null) return [element("p", {}, t("why_popular"))];
  const score = scoreText(item.score ?? scores[finder]);
  const isFound = !standing || standing.channels.interests;
  const found = t(isFound ? "why_interest" : "why_nearest", { letter: letterOf(finder), score });
  return [
    element("p", {}, isPicked ? t("why_picked") : found),
    element("h4", {}, t("why_scores")),
    element("ul", { class: "scores" }, ...bars(scores)),
    element("h4", {}, t("why_clicks")),
    element("ul", { class: "near" }, ...clicks.map(clickRow)),
  ];
}

/** A bar for each interest's score, from the least of them or zero to the best. */
function bars(scores) {
  const least = Math.min(0, ...scores);
  const span = Math.max(...scores, 0) - least || 1;
  return scores.map((score, interest) => {
    const mark = badge(interest);
    const bar = element("span", { class: "score-bar", "data-colour": mark.dataset.colour });
    bar.style.width = `${(100 * (score - least)) / span}%`;
    return element(
      "li",
      {},
      mark,
      element("span", { class: "track", "aria-hidden": "true" }, bar),
      element("span", { class: "score" }, scoreText(score)),
    );
  });
}

function clickRow({ id, title, similarity, interest }) {
  return element(
    "li",
    {},
    badge(interest),
    element("span", { class: "title" }, nameOf({ id, title })),
    element("span", { class: "score" }, scoreText(similarity)),
  );
}
