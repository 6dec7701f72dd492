# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The report as one page that needs nothing else: for a phone, a screen and a printer."""

from __future__ import annotations

import importlib
from typing import Any

from paddlerec_milvus.bench.report.document import DEFINITIONS, PASTE, IndexReport
from paddlerec_milvus.bench.report.plots_html import charts, plotly
from paddlerec_milvus.bench.report.view import View
from paddlerec_milvus.errors import UserError


def as_html(view: View, report: IndexReport) -> str:
    """The whole page, of ``templates/``. UserError where plotly or jinja2 is not installed."""
    shown = charts(view)
    # plotly writes "<" of a text as \\u003c, so that no text ends the script
    figures = ", ".join(
        f'"chart{number}": {chart.figure.to_json()}' for number, chart in enumerate(shown)
    )
    jinja2 = _jinja2()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "templates"),
        autoescape=True,
        keep_trailing_newline=True,
    )
    page: str = environment.get_template("report.html.j2").render(
        report=report,
        charts=shown,
        definitions=DEFINITIONS,
        paste=PASTE,
        plotly=plotly("plotly.offline").get_plotlyjs() if shown else "",
        figures=f"{{{figures}}}",
    )
    return page


def _jinja2() -> Any:
    try:
        return importlib.import_module("jinja2")
    except ImportError as error:
        raise UserError(
            "the page of a report needs jinja2: pip install 'paddlerec-milvus[bench]'"
        ) from error
