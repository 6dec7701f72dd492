// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// Covers, drawn from what is known of an item: title, author, year; a calm colour by category.

import { drawing } from "./element.js";
import { mainAuthor } from "./naming.js";
import { yearText } from "./words.js";

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
const LEFT = 13; // where lines of text begin
const WIDTH = 63;
const SIZES = [10.5, 9, 7.5]; // of a title, the first in which it fits and no word is broken
const MOST_LINES = 4;

/** The first letters of a title's first two words of weight; numbers stay whole. */
export function initialsOf(title) {
  const words = title.replace(/\(.*?\)/gu, " ").match(/[\p{L}\p{N}]+/gu) ?? [];
  const weighty = words.filter((word) => !SMALL.has(word.toLowerCase()));
  const short = (word) => (/^\p{N}+$/u.test(word) ? word.slice(0, 4) : [...word][0].toUpperCase());
  return (weighty.length ? weighty : words).slice(0, 2).map(short).join("") || "?";
}

/** The cover of an item {id, title, category, authors, year}. */
export function cover(item) {
  const { lines, size } = titleLines(item.title ?? `${item.id}`);
  const title = lines.map((line, at) => textAt(line, 32 + at * size * 1.2, size, "title-line"));
  const by = cut(mainAuthor(item) ?? "", WIDTH / 6.5);
  return frame(item, [
    ...title,
    by ? textAt(by, 86, 6.5, "cover-by") : null,
    item.year ? textAt(yearText(item.year), 94, 6, "cover-by") : null,
  ]);
}

/** The same where there is no room for words: initials. */
export function thumb(item) {
  const initials = initialsOf(item.title ?? `${item.id}`);
  const size = initials.length > 3 ? 19 : 25;
  const letters = drawing("text", { x: 44, y: 50, "font-size": size, class: "initials" });
  letters.append(initials);
  return frame(item, [letters]);
}

function frame(item, parts) {
  const name = item.title ?? `${item.id}`;
  return drawing(
    "svg",
    {
      class: "cover",
      viewBox: "0 0 80 100",
      "aria-hidden": "true",
      "data-tone": number(item.category ?? mainAuthor(item) ?? name) % TONES,
    },
    drawing("rect", { class: "ground", width: 80, height: 100 }),
    drawing("path", { class: "figure", d: FIGURES[number(name) % FIGURES.length] }),
    ...parts,
    drawing("rect", { class: "spine", width: 7, height: 100 }),
  );
}

function textAt(text, y, size, kind) {
  const node = drawing("text", { x: LEFT, y, "font-size": size, class: kind });
  node.append(text);
  return node;
}

/** A title in lines, without what stands in brackets at its end, in the largest size that fits. */
function titleLines(title) {
  const short = title.replace(/\s*\([^()]*\)\s*$/u, "") || title;
  const longest = Math.max(...short.split(/[\s\p{sc=Han}]+/u).map(widthOf));
  for (const size of SIZES) {
    const lines = wrapped(short, WIDTH / size);
    if (lines.length <= MOST_LINES && longest <= WIDTH / size) return { lines, size };
  }
  const size = SIZES.at(-1);
  const lines = wrapped(short, WIDTH / size).slice(0, MOST_LINES);
  return { lines: [...lines.slice(0, -1), `${lines.at(-1).replace(/.$/u, "")}…`], size };
}

/** Lines of at most `room` em; a word that is longer is broken, Chinese anywhere. */
function wrapped(text, room) {
  const pieces = text.match(/\p{sc=Han}|[^\s\p{sc=Han}]+\s*|\s+/gu) ?? [];
  const lines = [""];
  for (const piece of pieces.flatMap((part) => broken(part, room))) {
    if (widthOf(lines.at(-1) + piece.trimEnd()) > room && lines.at(-1)) lines.push("");
    lines[lines.length - 1] += piece;
  }
  return lines.map((line) => line.trim()).filter(Boolean);
}

function broken(piece, room) {
  if (widthOf(piece.trimEnd()) <= room) return [piece];
  const first = cut(piece, room, "");
  return [first, ...broken(piece.slice(first.length), room)];
}

/** The beginning of `text` that fits into `room` em. */
function cut(text, room, end = "…") {
  if (widthOf(text) <= room) return text;
  const letters = [...text];
  while (letters.length > 1 && widthOf(letters.join("") + end) > room) letters.pop();
  return letters.join("").trimEnd() + end;
}

/** About how many em wide a text is. */
function widthOf(text) {
  let width = 0;
  for (const letter of text) {
    if (/[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Hangul}，。：]/u.test(letter)) width += 1;
    else if (/[A-ZMWmw@—…]/u.test(letter)) width += 0.85;
    else width += /[iljtf.,:;'! ]/u.test(letter) ? 0.38 : 0.66;
  }
  return width;
}

/** The same number for the same text, FNV-1a. */
function number(text) {
  let hash = 0x811c9dc5;
  for (const letter of text) hash = Math.imul(hash ^ letter.codePointAt(0), 0x01000193);
  return (hash ^ (hash >>> 15)) >>> 0;
}
