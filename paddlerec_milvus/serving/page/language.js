// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// English or Chinese: as the browser says, until somebody has chosen, which is remembered.

import { TEXTS } from "./texts.js";

const CHOICE = "language"; // in localStorage
const TAGS = { en: "en", zh: "zh-CN" };

let current = TEXTS[localStorage.getItem(CHOICE)] ? localStorage.getItem(CHOICE) : preferred();

function preferred() {
  const known = navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase());
  return known.find((code) => TEXTS[code]) ?? "en";
}

export const locale = () => TAGS[current];

export const knows = (key) => key in TEXTS[current];

/** The text of `key`; `values` fill its places, and `count` chooses between one and many. */
export function t(key, values = {}) {
  const forms = TEXTS[current][key].split("|");
  const form = forms.length > 1 && values.count !== 1 ? forms[1] : forms[0];
  return form.replace(/\{(\w+)\}/gu, (_, name) => values[name]);
}

export function switchLanguage() {
  current = current === "en" ? "zh" : "en";
  localStorage.setItem(CHOICE, current);
}

/** Say what index.html holds in the language: text, or the attributes that are heard or seen. */
export function translatePage() {
  document.documentElement.lang = locale();
  document.title = t("name");
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-t-label]")) {
    node.setAttribute("aria-label", t(node.dataset.tLabel));
  }
  const search = document.getElementById("search");
  search.placeholder = t("placeholder");
  const other = document.getElementById("language");
  other.textContent = t("language");
  other.lang = TAGS[current === "en" ? "zh" : "en"];
}
