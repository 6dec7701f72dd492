// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// The categories that the list may be narrowed to.

import { byId, element } from "./element.js";
import { t } from "./language.js";

/** `told`: the answer of GET /categories; `chosen`: names, also such as are not among them. */
export function drawFilters(told, chosen) {
  byId("filters").hidden = !told.total && !chosen.length;
  byId("filters-chosen").textContent = chosen.length ? `${chosen.length}` : t("filters_all");
  byId("filters-clear").hidden = !chosen.length;
  const shown = told.categories.length;
  const more = shown < told.total ? t("filters_more", { shown, total: told.total }) : "";
  byId("filters-more").textContent = more;
  const names = new Set(told.categories.map(({ name }) => name));
  const others = chosen.filter((name) => !names.has(name)).map((name) => ({ name, items: "" }));
  const list = byId("categories");
  const focused = document.activeElement?.closest("#categories") && document.activeElement.value;
  list.replaceChildren(...[...others, ...told.categories].map((one) => choice(one, chosen)));
  if (focused) [...list.querySelectorAll("input")].find((box) => box.value === focused)?.focus();
}

function choice({ name, items }, chosen) {
  const box = element("input", { type: "checkbox", value: name });
  box.checked = chosen.includes(name);
  return element(
    "li",
    {},
    element(
      "label",
      { class: "check" },
      box,
      element("span", { class: "name" }, name),
      element("span", { class: "count" }, `${items}`),
    ),
  );
}

/** The names that are ticked. */
export const chosenCategories = () =>
  [...byId("categories").querySelectorAll("input:checked")].map((box) => box.value);
