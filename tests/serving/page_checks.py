# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a page must keep for those who read, tap, listen or use a keyboard, as checks in a browser.

WCAG 2.2 is https://www.w3.org/TR/WCAG22/; what Lighthouse and axe call serious rests on it.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from page_view import View

DESK = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}


def fits(view: View) -> None:
    """Nothing is wider than the window."""
    width, scrolled, window = view.page.evaluate(
        "[document.documentElement.clientWidth, document.documentElement.scrollWidth, innerWidth]"
    )
    assert scrolled == width
    assert window - width < 20  # a scroll bar


def nothing_is_serious(view: View, size: dict[str, int]) -> None:
    """Width, contrast, names, order of headings, and on a phone the size of what is tapped."""
    fits(view)
    assert view.page.evaluate(FAINT_TEXTS) == []
    assert view.page.evaluate(NAMELESS) == []
    levels = view.page.evaluate(HEADINGS)
    assert levels[0] == 1
    assert all(now <= before + 1 for before, now in itertools.pairwise(levels))
    if size is PHONE:
        assert view.page.evaluate(SMALL_TARGETS) == []


def serious_findings(view: View) -> list[Any]:
    """What axe-core calls serious or critical."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    return [
        (rule["id"], rule["impact"], [node["html"] for node in rule["nodes"]][:3])
        for rule in axe.run(view.page).response["violations"]
        if rule["impact"] in ("serious", "critical")
    ]


def tab_comes_to_all(view: View) -> None:
    """Tab comes to every control, in the order in which they are read."""
    controls, before = view.page.evaluate(CONTROLS), None
    while controls != before:  # names of categories may still come
        view.page.wait_for_timeout(500)
        controls, before = view.page.evaluate(CONTROLS), controls
    stops = tab_stops(view)
    assert stops == sorted(stops)
    places = {stop.partition(" ")[0] for stop in stops}
    assert [one for one in controls if one.partition(" ")[0] not in places] == []


def tab_stops(view: View) -> list[str]:
    """What Tab comes to, from the first to the last, in words."""
    view["#skip"].focus()
    stops: list[str] = []
    while (stop := view.page.evaluate(TAB_STOP)) and len(stops) < 500:
        stops.append(stop)
        view.page.keyboard.press("Tab")
    return stops


TAB_STOP = """
(() => {
  const node = document.activeElement;
  if (!node || node === document.body) return "";
  const all = [...document.querySelectorAll("*")];
  return `${String(all.indexOf(node)).padStart(5, "0")} ${node.outerHTML.slice(0, 90)}`;
})()
"""

# all that can be used now, in the document's order, as TAB_STOP writes it
CONTROLS = """
(() => {
  const all = [...document.querySelectorAll("*")];
  const kinds = "a[href], button, input, select, summary, pre[tabindex]";
  return [...document.querySelectorAll(kinds)]
    .filter((node) => node.checkVisibility() && !node.disabled && node.closest("dialog") === null)
    .map((node) => `${String(all.indexOf(node)).padStart(5, "0")} ${node.outerHTML.slice(0, 90)}`);
})()
"""

NAMELESS = """
[...document.querySelectorAll("a[href], button, input, select, summary, dialog[open]")]
  .filter((node) => node.checkVisibility())
  .filter((node) => {
    const by = document.getElementById(node.getAttribute("aria-labelledby"));
    const labels = [...(node.labels ?? []), by].map((label) => label?.textContent);
    const own = node.matches("input, select") ? "" : node.innerText;
    return ![node.getAttribute("aria-label"), own, ...labels].some((text) => text?.trim());
  })
  .map((node) => node.outerHTML)
"""

# levels of the headings that are seen, from the first to the last
HEADINGS = """
[...document.querySelectorAll("h1, h2, h3, h4")]
  .filter((node) => node.checkVisibility() && node.textContent.trim())
  .map((node) => Number(node.tagName[1]))
"""

# WCAG 2.2, 2.5.8: what is tapped measures 24 pixels; links within a sentence may be lower
SMALL_TARGETS = """
[...document.querySelectorAll("button, input, summary, [role=option]")]
  .filter((each) => each.checkVisibility() && each.closest("label") === null)
  .filter((each) => Math.min(each.offsetWidth, each.offsetHeight) < 24)
  .map((each) => each.outerHTML)
"""

# WCAG 2, 1.4.3, of every text against the colour that lies behind it
FAINT_TEXTS = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92
    : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (node) => {
    for (let each = node; each; each = each.parentElement) {
      const colour = rgba(getComputedStyle(each).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgba(getComputedStyle(document.body).backgroundColor);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const faint = [];
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim()) continue;
    if (!node.checkVisibility({ opacityProperty: true })) continue;
    if (node.closest("svg, script, noscript, .unseen, [disabled]")) continue;
    const style = getComputedStyle(node);
    const levels = [light(rgba(style.color)), light(behind(node))].sort((a, b) => a - b);
    const contrast = (levels[1] + 0.05) / (levels[0] + 0.05);
    if (contrast < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) {
      faint.push(`${contrast.toFixed(2)} ${walker.currentNode.data}`);
    }
  }
  return faint;
})()
"""
