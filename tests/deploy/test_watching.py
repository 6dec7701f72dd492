# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Alerts and dashboard name what the service measures, and every alert says what to do."""

from __future__ import annotations

import re

import pytest
from support import ROOT
from watched import dashboard_expressions, loaded, panels, rules

from paddlerec_milvus.serving.gate import PROBES

from in_process import in_process_app  # isort: skip  (watched adds its folder)

ALERTS = {rule["alert"]: rule for rule in rules("alert")}
PAGES = ("docs/tutorials/operating.md", "docs/tutorials/operating.zh.md")


def names_in(expression: str) -> set[str]:
    """The metrics and recorded series that it reads."""
    return set(re.findall(r"\b(?:serving_|candidates:)[a-z0-9_:]+", expression))


@pytest.fixture(scope="module")
def exposed() -> set[str]:
    """The names in /metrics after one request of each kind of list."""
    with in_process_app() as service:
        service.candidates([3, 5])
        assert service.http.post("/recommend", json={"hist_item": [[3, 5]]}).status_code == 200
        text = service.http.get("/metrics").text
    return set(re.findall(r"^(serving_\w+)", text, re.MULTILINE))


def test_every_metric_of_rules_and_dashboard_is_exposed(exposed):
    recorded = {rule["record"] for rule in rules("record")}
    expressions = [rule["expr"] for rule in rules("record") + rules("alert")]
    used = set().union(*map(names_in, [*expressions, *dashboard_expressions().values()]))
    assert len(used) > 20
    assert used - exposed - recorded == set()
    assert recorded <= used


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_bad_it_is_what_is_wrong_and_what_to_do(alert):
    rule = ALERTS[alert]
    about = rule["annotations"]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert about["summary"]
    assert re.search(r"\d|\$value", about["description"])
    assert about["runbook_url"] == f"{PAGES[0]}#{alert.lower()}"
    for page in PAGES:  # a heading of the alert's name alone has that anchor
        assert f"\n#### {alert}\n" in (ROOT / page).read_text(encoding="utf-8")


def test_the_runbook_has_no_other_alerts():
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert re.findall(r"^#### (Candidates\w+)$", text, re.MULTILINE) == list(ALERTS)


def test_every_alert_is_tested_when_it_fires_and_when_it_does_not():
    cases = [
        (case["alertname"], bool(case["exp_alerts"]))
        for group in loaded("alerts_test.yml")["tests"]
        for case in group["alert_rule_test"]
    ]
    for alert in ALERTS:
        assert cases.count((alert, True)) == 1
        assert cases.count((alert, False)) >= 2, "in a good hour, and after its fault has passed"


def test_prometheus_scrapes_the_job_that_rules_and_dashboard_ask_for():
    (job,) = loaded("prometheus.yml")["scrape_configs"]
    expressions = [rule["expr"] for rule in rules("record") + rules("alert")]
    for text in [*expressions, *dashboard_expressions().values()]:
        assert set(re.findall(r'job="(\w+)"', text)) <= {job["job_name"]}


def test_probes_and_scrapes_are_no_requests_of_callers():
    expressions = [rule["expr"] for rule in rules("record") + rules("alert")]
    text = "\n".join([*expressions, *dashboard_expressions().values()])
    (routes,) = set(re.findall(r'route!~"([^"]*)"', text))
    assert all(re.fullmatch(routes, path) for path in (*PROBES, "/metrics"))
    selectors = re.findall(r"serving_requests_total\{([^}]*)\}", text)
    assert [one for one in selectors if "route" not in one and 'status="429"' not in one] == []


def test_panels_have_units_and_none_lies_over_another():
    places = set[tuple[int, int]]()
    for panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"]
        at = panel["gridPos"]
        own = {(at["x"] + x, at["y"] + y) for x in range(int(at["w"])) for y in range(int(at["h"]))}
        assert not places & own
        assert max(x for x, _ in own) < 24
        places |= own
