# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the files for Prometheus and Grafana hold."""

from __future__ import annotations

import json
import sys
from typing import Any

import yaml
from support import ROOT

sys.path[:0] = [str(ROOT / "tests" / "serving")]

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"


def loaded(name: str) -> Any:
    """A yaml file of Prometheus."""
    return yaml.safe_load((PROMETHEUS / name).read_text(encoding="utf-8"))


def rules(kind: str) -> list[dict[str, Any]]:
    """All rules of a kind: ``record`` or ``alert``."""
    return [
        rule for group in loaded("alerts.yml")["groups"] for rule in group["rules"] if kind in rule
    ]


def panels() -> list[dict[str, Any]]:
    """All panels of the dashboard but its rows."""
    document = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def dashboard_expressions() -> dict[str, str]:
    """By the title of their panel and their letter."""
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in panels()
        for target in panel["targets"]
    }
