# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The chart as its tests see it: documents of YAML, the pods in them, and .ci/chart.py."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from support import ROOT

CHART = ROOT / "deploy" / "chart"
MANIFESTS = ROOT / "deploy" / "kubernetes"


def chart_program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chart", ROOT / ".ci" / "chart.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documents_of(text: str) -> list[Any]:
    return [document for document in yaml.safe_load_all(text) if document]


def manifests() -> list[Any]:
    return [one for file in sorted(MANIFESTS.glob("*.yaml")) for one in read(file)]


def read(file: Path) -> list[Any]:
    return documents_of(file.read_text(encoding="utf-8"))


def pods_of(documents: Iterable[Any]) -> Iterator[Any]:
    """The pods' specs of Deployments, StatefulSets and CronJobs."""
    for document in documents:
        spec = document.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            yield spec["template"]["spec"]


def container(documents: Iterable[Any], name: str) -> Any:
    """The one container of this name."""
    (own,) = (one for pod in pods_of(documents) for one in pod["containers"] if one["name"] == name)
    return own


def environment_of(documents: Iterable[Any], name: str) -> dict[str, Any]:
    """Variables of a container: a text, or where it comes from."""
    return {
        one["name"]: one.get("value", one.get("valueFrom"))
        for one in container(documents, name)["env"]
    }
