# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Pages that need nothing else: for a phone, a screen, a printer, and a browser without scripts."""

from __future__ import annotations

import importlib
from typing import Any

from paddlerec_milvus.bench.report.advice import meets_target
from paddlerec_milvus.bench.report.document import DEFINITIONS, PASTE, IndexReport
from paddlerec_milvus.bench.report.plot_style import styles_of
from paddlerec_milvus.bench.report.plots_svg import charts, legend_of
from paddlerec_milvus.bench.report.view import View
from paddlerec_milvus.errors import UserError


def as_html(view: View, report: IndexReport) -> str:
    """The page of a run. UserError where jinja2 is not installed."""
    builds = {name: number for number, name in enumerate(styles_of(view.points))}
    settings = [
        {
            "build": builds[point.build_name],
            "name": point.name,
            "meets": meets_target(point),
            "p99": point.latency.p99,
            "rate": point.users_per_second(),
            "rss": point.built(lambda build: build.rss_mib),
        }
        for point in view.points
    ]
    return render_page(
        "report.html.j2",
        title=report.title,
        report=report,
        charts=charts(view),
        legend=legend_of(view),
        settings=settings,
        numbers={point.name: number for number, point in enumerate(view.points)},
        builds=builds,
        definitions=DEFINITIONS,
        paste=PASTE,
    )


def render_page(template: str, **values: Any) -> str:
    """A page of ``templates/``. UserError where jinja2 is not installed."""
    try:
        jinja2 = importlib.import_module("jinja2")
    except ImportError as error:
        raise UserError(
            "the page of a report needs jinja2: pip install 'paddlerec-milvus[bench]'"
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "templates"),
        autoescape=True,
        keep_trailing_newline=True,
    )
    page: str = environment.get_template(template).render(**values)
    return page
