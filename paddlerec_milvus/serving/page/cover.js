// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// A cover drawn from a title: initials, a calm colour by category, a figure by title.

import { drawing } from "./element.js";

const TONES = 8; // as many as page.css has
const SMALL = new Set(["a", "an", "and", "in", "of", "on", "the", "to"]);
const FIGURES = [
  "M80 4a30 30 0 0 0 0 60z",
  "M0 100V76q20-16 40 0t40 0v24z",
  "M80 100 0 66V52zM80 100 26 0h16zM80 100 0 22V8z",
  "M16 100V86h16V72h16V58h16V44h16v56z",
  "M0 78 80 38v12L0 90zM0 98 80 58v12L20 100H0z",
  "M8 72a32 32 0 0 1 64 0zM8 76h64v4H8zM16 84h48v4H16z",
];

/** The first letters of a title's first two words of weight; numbers stay whole. */
export function initialsOf(title) {
  const words = title.replace(/\(.*?\)/gu, " ").match(/[\p{L}\p{N}]+/gu) ?? [];
  const weighty = words.filter((word) => !SMALL.has(word.toLowerCase()));
  const short = (word) => (/^\p{N}+$/u.test(word) ? word.slice(0, 4) : [...word][0].toUpperCase());
  return (weighty.length ? weighty : words).slice(0, 2).map(short).join("") || "?";
}

/** The cover of an item {id, title, category}. */
export function cover(item) {
  const name = item.title ?? `${item.id}`;
  const initials = initialsOf(name);
  const letters = drawing("text", { x: 44, y: 42, class: initials.length > 3 ? "long" : "" });
  letters.append(initials);
  return drawing(
    "svg",
    {
      class: "cover",
      viewBox: "0 0 80 100",
      "aria-hidden": "true",
      "data-tone": number(item.category ?? name) % TONES,
    },
    drawing("rect", { class: "ground", width: 80, height: 100 }),
    drawing("path", { class: "figure", d: FIGURES[number(name) % FIGURES.length] }),
    letters,
    drawing("rect", { class: "spine", width: 7, height: 100 }),
  );
}

/** The same number for the same text, FNV-1a. */
function number(text) {
  let hash = 0x811c9dc5;
  for (const letter of text) hash = Math.imul(hash ^ letter.codePointAt(0), 0x01000193);
  return (hash ^ (hash >>> 15)) >>> 0;
}
