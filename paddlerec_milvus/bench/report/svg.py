# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Charts as SVG inside a page: drawn by matplotlib, coloured by the page's style, seen by scripts.

Text stays text, and colours become CSS variables, so that a chart follows a dark screen.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from paddlerec_milvus.bench.report.plot_style import COLOURS

WIDTH, HEIGHT, FONT = 400, 300, 12  # in the units of the drawing: pixels on a phone
GRID, SPINE, PAPER, FRONT = "#dddddd", "#444444", "#ffffff", "#bbbbbb"
SHADES = ("#1b1b1b", "#555556", "#909091", "#c8c8c9")
"""Of the parts of a bar, and of what is no index."""
VARIABLES = {
    GRID: "--grid",
    SPINE: "--quiet",
    PAPER: "--paper",
    FRONT: "--front",
    **{colour.lower(): f"--c{number}" for number, colour in enumerate(COLOURS)},
    **{shade: f"--s{number}" for number, shade in enumerate(SHADES)},
}
_MARGINS = {"left": 58, "right": 10, "top": 12, "bottom": 44}
_SETTINGS: dict[Any, Any] = {  # matplotlib knows each key by its name
    "font.size": FONT,
    "svg.fonttype": "none",
    "axes.edgecolor": SPINE,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": SPINE,
    "xtick.labelcolor": "black",
    "ytick.color": SPINE,
    "ytick.labelcolor": "black",
    "legend.frameon": False,
    "legend.fontsize": FONT,
    "legend.borderpad": 0,
    "text.parse_math": False,
}
_GROUP_OR_MARKER = re.compile(r'<g id="([^"]+)">|<use [^>]*/>')


class Mark(NamedTuple):
    """What a page knows of a part of a chart: attributes, and words that a pointer shows."""

    attributes: Mapping[str, str | int]
    title: str = ""

    def opened(self) -> str:
        """The start of its group."""
        words = " ".join(f'{name}="{escape(str(text))}"' for name, text in self.attributes.items())
        return f"<g {words}>" + (f"<title>{escape(self.title)}</title>" if self.title else "")


Marks = Mapping[str, tuple[Mark, Sequence[Mark]]]
"""Id that a part was drawn with → its mark, and those of its markers in order."""


def chart_svg(
    name: str,
    label: str,
    draw: Callable[[Any], Marks],
    size: tuple[float, float] = (WIDTH, HEIGHT),
    margins: Mapping[str, float] = {},
) -> str:
    """``draw`` on an empty matplotlib axis of ``size`` units → an ``svg`` element, ``role=img``.

    ``name`` makes its inner ids different from those of the page's other charts. Without a
    ``label`` it is an ornament. Empty where nothing was drawn.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    width, height = size
    edge = {**_MARGINS, **margins}
    with mpl.rc_context({**_SETTINGS, "svg.hashsalt": name}):
        figure = Figure(figsize=(width / 72, height / 72))
        figure.patch.set_visible(False)
        left, bottom = edge["left"] / width, edge["bottom"] / height
        inside = 1 - left - edge["right"] / width, 1 - bottom - edge["top"] / height
        axis = figure.add_axes((left, bottom, *inside))
        axis.patch.set_visible(False)
        marks = draw(axis)
        if not axis.has_data():
            return ""
        out = io.StringIO()
        figure.savefig(out, format="svg")
    return _inlined(out.getvalue(), label, marks, size)


def _inlined(text: str, label: str, marks: Marks, size: tuple[float, float]) -> str:
    """An SVG file's text as an element of a page."""
    body = text[text.index("<svg") :]
    for page_has in (r"<metadata>.*?</metadata>", r"<style.*?</style>", r" font-family: [^;\"]*;"):
        body = re.sub(page_has, "", body, flags=re.DOTALL)
    body = re.sub(r"<svg[^>]*>", "", body, count=1)
    body = _marked(body, marks)
    body = re.sub(r"#[0-9a-f]{6}\b", lambda colour: _variable(colour.group()), body)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda id_: id_.group() if id_.group(1) in used else "", body)
    body = re.sub(r"\n\s*", "\n", re.sub(r"<!--.*?-->", "", body))
    width, height = size
    role = f'role="img" aria-label="{escape(label)}"' if label else 'aria-hidden="true"'
    return f'<svg class="chart" {role} viewBox="0 0 {width:g} {height:g}">{body}'.strip()


def _variable(colour: str) -> str:
    return f"var({VARIABLES[colour]})" if colour in VARIABLES else colour


def _marked(body: str, marks: Marks) -> str:
    """Groups and their markers with their marks; a marker belongs to the group that began last."""
    left: list[Mark] = []

    def with_mark(part: re.Match[str]) -> str:
        nonlocal left
        if part.group(1) is None:
            return f"{left.pop(0).opened()}{part.group()}</g>" if left else part.group()
        mark, markers = marks.get(part.group(1), (None, ()))
        left = list(markers)
        return mark.opened() if mark else part.group()

    return _GROUP_OR_MARKER.sub(with_mark, body)
