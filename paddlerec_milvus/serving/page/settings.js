// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// The panel's settings: sliders, the check box, categories.

import { byId } from "./element.js";
import { chosenCategories } from "./filters.js";
import { t } from "./language.js";
import { DIVERSITIES } from "./state.js";

const PAUSE = 120; // milliseconds after a slider's last move

/** Show the settings as the state has them. */
export function drawSettings({ topK, quota, diversity, exclude }) {
  byId("top-k").value = topK;
  byId("top-k-value").textContent = topK;
  drawSlider("quota", quota, quota);
  drawSlider("diversity", DIVERSITIES.indexOf(diversity), diversity);
  byId("exclude").checked = exclude;
}

function drawSlider(id, place, value) {
  byId(id).value = place;
  byId(`${id}-value`).textContent = value || t("off");
  byId(id).setAttribute("aria-valuetext", value || t("off"));
}

/** `move` takes a part of the state while a slider moves, `change` one that is chosen. */
export function prepareSettings(move, change) {
  onSlider("topK", byId("top-k"), (value) => value, move, change);
  onSlider("quota", byId("quota"), (value) => value, move, change);
  onSlider("diversity", byId("diversity"), (value) => DIVERSITIES[value], move, change);
  byId("exclude").addEventListener("change", (event) => change({ exclude: event.target.checked }));
  byId("categories").addEventListener("change", () => change({ categories: chosenCategories() }));
  byId("filters-clear").addEventListener("click", () => change({ categories: [] }));
  byId("settings").open = window.matchMedia("(min-width: 52rem)").matches;
}

function onSlider(name, slider, valueOf, move, change) {
  let timer = 0;
  slider.addEventListener("input", () => {
    const part = { [name]: valueOf(Number(slider.value)) };
    move(part);
    clearTimeout(timer);
    timer = setTimeout(() => change(part), PAUSE);
  });
}
