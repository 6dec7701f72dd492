# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Write dashboard.json beside this file: ``python deploy/grafana/make_dashboard.py``.

Limits are those of ../prometheus/alerts.yml, so a panel turns red where an alert would fire.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)

HERE = Path(__file__).resolve().parent
ALERTS = HERE.parent / "prometheus" / "alerts.yml"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, RED = "green", "red"
LISTS = 'route=~".*(candidates|recommend|recommendations)"'
RANKED = 'route=~".*(recommend|recommendations)"'
CALLERS = 'route!~"/(healthz|readyz|metrics)"'
AT = "{{instance}}"


class Panel(NamedTuple):
    """One panel: the expressions by their legends, in ``unit``."""

    title: str
    unit: str
    queries: Mapping[str, str]
    alert: str = ""
    """Whose limit is drawn."""
    about: str = ""
    stacked: bool = False
    decimals: int | None = None
    words: tuple[str, ...] = ()
    """For 0 and 1."""


def rate(name: str, by: str, only: str = "") -> str:
    """The steps of the counter ``serving_<name>`` in a second, over five minutes, ``by`` labels."""
    labels = ",".join(filter(None, ['job="candidates"', only]))
    return f"sum by ({by}) (rate(serving_{name}{{{labels}}}[5m]))"


def quantile(share: float, name: str, by: str = "le", only: str = "") -> str:
    """A quantile of the histogram ``serving_<name>`` over five minutes, ``by`` le and others."""
    return f"histogram_quantile({share}, {rate(f'{name}_bucket', by, only)})"


def gauge(name: str) -> str:
    """The gauge ``serving_<name>``."""
    return f'serving_{name}{{job="candidates"}}'


GLANCE = [
    Panel("Model serves", "none", {AT: gauge("ready")}, "CandidatesNotReady", words=("no", "yes")),
    Panel("Milvus", "none", {AT: gauge("breaker_open")}, "CandidatesMilvusAway",
          words=("answers", "away")),
    Panel("Histories", "none", {AT: gauge("histories_up")}, "CandidatesHistoriesAway",
          words=("away", "answer")),
    Panel("Lists a second", "reqps", {"": "candidates:lists:rate5m"}, decimals=1),
    Panel("Fallback share", "percentunit", {"": "candidates:fallback_share:ratio5m"},
          "CandidatesFallback", decimals=2),
    Panel("p99 of lists", "s", {"": "candidates:p99_seconds:rate5m"}, "CandidatesSlow"),
    Panel("index_recall@50", "percentunit", {AT: gauge("index_recall")}, decimals=1),
    Panel("Version's age", "s", {AT: "candidates:version_age_seconds"}, "CandidatesVersionOld"),
]  # fmt: skip

ROWS: dict[str, list[Panel]] = {
    "Traffic and sources": [
        Panel("Requests by status", "reqps",
              {"{{status}}": rate("requests_total", "status", CALLERS)}, stacked=True),
        Panel("Users by the source of their list", "suffix: /s",
              {"{{source}}": rate("users_total", "source")}, stacked=True,
              about="short: too few clicks for the model; fallback: popular items in its "
              "place"),
        Panel("Shares of fallbacks, errors, refusals", "percentunit",
              {"fallback": "candidates:fallback_share:ratio5m",
               "5xx": "candidates:error_share:ratio5m",
               "refused": "candidates:refused_share:ratio5m"},
              "CandidatesFallback", "The line is the limit of fallbacks; that of 5xx is 1 %"),
    ],
    "Latency by stage": [
        Panel("Requests for lists", "s",
              {f"p{100 * share:g}": quantile(share, "request_seconds", only=LISTS)
               for share in (0.5, 0.95, 0.99)}, "CandidatesSlow"),
        Panel("p99 by stage", "s",
              {"{{stage}}": quantile(0.99, "stage_seconds", "le,stage")},
              about="tower: the model; search: Milvus; merge: one list of the interests'"),
        Panel("p99 by call", "s", {"{{route}}": quantile(0.99, "request_seconds", "le,route")}),
    ],
    "Index recall and version": [
        Panel("index_recall@50", "percentunit",
              {AT: gauge("index_recall"), "limit": f"max({gauge('index_recall_least')})"},
              about="On 64 recent interests, against exact search of what is stored; limit: "
              "SERVING_LEAST_RECALL"),
        Panel("Since the last probe", "s",
              {AT: "candidates:index_recall_age_seconds",
               "limit": f"3 * max({gauge('index_recall_interval_seconds')})"}),
        Panel("Probes an hour", "none",
              {"{{outcome}}": "sum by (outcome) (increase("
               'serving_index_recall_probes_total{job="candidates"}[1h]))'}),
        Panel("Version that serves", "none", {AT: gauge("collection_version")},
              about="3: items_v3; 0: none, popular items are given"),
    ],
    "Milvus and Redis": [
        Panel("Milvus: no search is tried", "none", {AT: gauge("breaker_open")},
              "CandidatesMilvusAway", "1: it does not answer, or searches fail"),
        Panel("Fallbacks by reason", "reqps", {"{{reason}}": rate("fallbacks_total", "reason")},
              stacked=True),
        Panel("Store of histories answers", "none", {AT: gauge("histories_up")},
              "CandidatesHistoriesAway", "Redis, or Milvus; no value while Milvus is away"),
    ],
    "Ranking": [
        Panel("Unranked share", "percentunit",
              {"unranked": "candidates:unranked_share:ratio5m"}, "CandidatesUnranked"),
        Panel("Unranked by reason", "reqps", {"{{reason}}": rate("unranked_total", "reason")},
              stacked=True),
        Panel("p99 of ranked lists", "s",
              {"p99": quantile(0.99, "request_seconds", only=RANKED)},
              "CandidatesSlow"),
    ],
    "Updates": [
        Panel("Writes of items and versions", "reqps",
              {"{{method}} {{route}}": rate("requests_total", "method,route",
               'route=~"/(items.*|insert|rollback|delete)"')}),
        Panel("A written item is unseen for", "s", {AT: gauge("item_freshness_seconds")},
              "CandidatesItemsUnseen", "The last write that was followed"),
        Panel("Clicks", "reqps",
              {"{{status}}": rate("requests_total", "status", 'route=~"/users/.*/events"')},
              stacked=True),
        Panel("Log of shown lists", "reqps", {"{{outcome}}": rate("shown_lists_total", "outcome")},
              stacked=True),
    ],
}  # fmt: skip


def limits() -> dict[str, tuple[str, float]]:
    """The first comparison of each alert that is one with a number: its sign, and the number."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    rules = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    comparisons = {
        rule["alert"]: re.match(r"[^<>]* (<|>|>=) ([\d.]+)(?: |$)", rule["expr"]) for rule in rules
    }
    return {name: (part[1], float(part[2])) for name, part in comparisons.items() if part}


def thresholds(alert: str) -> Any:
    """Red beyond the limit of ``alert``, green before it."""
    steps = [Threshold(None, "text")]
    if alert:
        sign, limit = limits()[alert]
        below, above = (RED, GREEN) if sign == "<" else (GREEN, RED)
        steps = [Threshold(None, below), Threshold(limit, above)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def queries(panel: Panel) -> list[Any]:
    """Its expressions as Grafana asks them."""
    return [
        prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + number))
        for number, (legend, expression) in enumerate(panel.queries.items())
    ]


def made(kind: Any, panel: Panel) -> Any:
    """What all kinds of panels have."""
    built = kind.title(panel.title).unit(panel.unit).datasource(SOURCE).targets(queries(panel))
    built = built.description(panel.about) if panel.about else built
    built = built if panel.decimals is None else built.decimals(panel.decimals)
    if panel.words:
        named = {str(value): ValueMappingResult(text) for value, text in enumerate(panel.words)}
        built = built.mappings([ValueMap(options=named)])
    return built.thresholds(thresholds(panel.alert))


def stat_panel(panel: Panel) -> Any:
    """The last value, large, on its colour."""
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    built = made(stat.Panel(), panel).height(4).span(3).reduce_options(last)
    return built.color_mode(BigValueColorMode.BACKGROUND)


def line_panel(panel: Panel, panels_beside: int) -> Any:
    """Lines over time, the limit as a dashed line."""
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).show_legend(True)
    tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI)
    built = made(timeseries.Panel(), panel).height(8).span(24 // panels_beside).min(0)
    built = built.legend(legend.placement(LegendPlacement.BOTTOM)).tooltip(tooltip)
    if panel.alert:
        style = common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED)
        built = built.thresholds_style(style)
    if panel.stacked:
        stacking = common.StackingConfig().mode(StackingMode.NORMAL)
        built = built.stacking(stacking).fill_opacity(30)
    return built


def document() -> str:
    """The dashboard as JSON."""
    built = (
        dashboard.Dashboard("Candidates")
        .uid("paddlerec-milvus-candidates")
        .description("The candidate service; what to do is in docs/tutorials/operating.md")
        .tags(["paddlerec-milvus"])
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
        .with_row(dashboard.Row("At a glance"))
    )
    for panel in GLANCE:
        built = built.with_panel(stat_panel(panel))
    for title, panels in ROWS.items():
        built = built.with_row(dashboard.Row(title))
        for panel in panels:
            built = built.with_panel(line_panel(panel, len(panels)))
    made_of_it = built.build()
    for number, part in enumerate(made_of_it.panels or [], 1):
        part.id_val = number  # by which links and alerts name a panel
    return JSONEncoder(sort_keys=True, indent=2).encode(made_of_it) + "\n"


if __name__ == "__main__":
    (HERE / "dashboard.json").write_text(document(), encoding="utf-8")
