// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// The search box: an ARIA combobox over GET /titles.

import { element } from "./element.js";
import { t } from "./language.js";
import { nameOf } from "./words.js";

const PAUSE = 120; // milliseconds without a key before the service is asked
const SHOWN = 12;

/** `find(text, limit, signal)` gives items, `pick(item)` takes one, `fail(error)` tells. */
export function searchBox(input, list, { find, pick, fail }) {
  let items = [];
  let active = -1;
  let asked = null; // the AbortController of the search under way, or of the one to come
  let pickFirst = false; // Enter came before the answer

  function close() {
    asked?.abort();
    asked = null;
    pickFirst = false;
    items = [];
    activate(-1);
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
  }

  function activate(place) {
    active = place;
    for (const [at, option] of [...list.children].entries()) {
      option.setAttribute("aria-selected", String(at === place));
    }
    if (place < 0) return input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-activedescendant", `found-${place}`);
    return list.children[place].scrollIntoView({ block: "nearest" });
  }

  function show(found, text) {
    items = found;
    list.replaceChildren(...found.map((item, at) => optionOf(item, at, text)));
    if (!found.length) list.append(element("li", { class: "none" }, t("none_found", { text })));
    list.hidden = false;
    input.setAttribute("aria-expanded", String(found.length > 0));
    activate(found.length ? 0 : -1);
  }

  function take(item) {
    input.value = "";
    close();
    pick(item);
  }

  async function search(pause) {
    asked?.abort();
    const mine = new AbortController();
    asked = mine;
    pickFirst = false;
    await new Promise((resolve) => setTimeout(resolve, pause));
    if (asked !== mine) return;
    const text = input.value.trim();
    try {
      const found = await find(text, SHOWN, mine.signal);
      if (asked !== mine) return;
      asked = null;
      if (pickFirst && found.length) take(found[0]);
      else show(found, text);
    } catch (error) {
      if (asked !== mine) return;
      close();
      fail(error);
    }
  }

  function move(step) {
    if (list.hidden || !items.length) search(0);
    else activate((active + step + items.length) % items.length);
  }

  function onKey(event) {
    if (event.isComposing) return;
    if (event.key === "ArrowDown") move(1);
    else if (event.key === "ArrowUp") move(-1);
    else if (event.key === "Enter" && asked) pickFirst = true;
    else if (event.key === "Enter" && items[active]) take(items[active]);
    else if (event.key === "Escape") {
      if (list.hidden) input.value = "";
      close();
    } else return;
    event.preventDefault();
  }

  input.addEventListener("keydown", onKey);
  input.addEventListener("input", () => (input.value.trim() ? search(PAUSE) : close()));
  input.addEventListener("blur", close);
  list.addEventListener("pointerdown", (event) => event.preventDefault()); // the input keeps focus
  list.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]");
    if (option) take(items[[...list.children].indexOf(option)]);
  });
}

function optionOf(item, at, text) {
  return element(
    "li",
    { role: "option", id: `found-${at}`, "aria-selected": "false" },
    element("span", { class: "title" }, ...marked(nameOf(item), text)),
    element("span", { class: "category" }, [item.authors, item.category].filter(Boolean).join(" · ")),
  );
}

/** The title with the words of `text` marked; as in the search, case and accents do not count. */
function marked(title, text) {
  const letters = [...title];
  const plain = letters.map(folded).join("");
  const within = new Set();
  for (const word of text.split(/\s+/u).filter(Boolean)) {
    const length = [...word].length;
    const at = plain.indexOf([...word].map(folded).join(""));
    for (let place = at; at >= 0 && place < at + length; place += 1) within.add(place);
  }
  const parts = [];
  for (const [at, letter] of letters.entries()) {
    const last = parts.at(-1);
    if (last?.found === within.has(at)) last.text += letter;
    else parts.push({ text: letter, found: within.has(at) });
  }
  return parts.map(({ text, found }) => (found ? element("mark", {}, text) : text));
}

/** One letter for one letter, so that places stay. */
function folded(letter) {
  return letter.normalize("NFD")[0].toLowerCase()[0];
}
