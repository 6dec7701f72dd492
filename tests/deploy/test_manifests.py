# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""deploy/kubernetes and the chart's own files beside the service's code; helm is not needed."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from chart_files import (
    CHART,
    chart_program,
    container,
    environment_of,
    manifests,
    pods_of,
    read,
)

from paddlerec_milvus import __version__
from paddlerec_milvus.serving.gate import PROBES
from paddlerec_milvus.serving.settings import VARIABLES

OTHERS = {"HOME", "MILVUS_URI", "MILVUS_TOKEN", "REDIS_PASSWORD", "POD_IP"}


def test_the_service_knows_every_variable_of_its_pod():
    names = set(environment_of(manifests(), "service"))
    assert {"SERVING_EXPORT", "SERVING_KEPT", "SERVING_KEYS", "SERVING_HISTORIES"} <= names
    assert names - OTHERS <= set(VARIABLES)
    template = (CHART / "templates" / "_pods.tpl").read_text(encoding="utf-8")
    assert set(re.findall(r"SERVING_[A-Z_]+", template)) - {"SERVING_PORT"} <= set(VARIABLES)


def test_every_variable_can_be_set_in_one_place():
    program = chart_program()
    assert set(VARIABLES) > program.ELSEWHERE
    assert set(program.settings_schema()) == set(VARIABLES) - program.ELSEWHERE
    assert all(one["description"] for one in program.settings_schema().values())


def test_schema_and_readme_are_those_of_the_code():
    program = chart_program()
    files = {"values.schema.json": program.values_schema(), "README.md": program.readme()}
    for name, text in files.items():
        assert (CHART / name).read_text(encoding="utf-8") == text, "make chart"
    if program.ALERTS.exists():
        assert (CHART / "alerts.yml").read_text("utf-8") == program.ALERTS.read_text("utf-8")


def test_every_pod_has_as_few_rights_as_there_are():
    pods = list(pods_of(manifests()))
    assert len(pods) == 2
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for one in (*pod["containers"], *pod.get("initContainers", ())):
            rights = one["securityContext"]
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in one["resources"]["limits"]


def test_redis_refuses_clicks_before_the_kernel_ends_it():
    redis = container(manifests(), "redis")
    most = redis["args"][redis["args"].index("--maxmemory") + 1]
    assert redis["resources"]["limits"]["memory"] == "1Gi"
    assert int(most.removesuffix("mb")) < 0.7 * 1024


@pytest.mark.parametrize("value", ["nameOverride", "fullnameOverride"])
def test_a_name_that_is_set_can_be_a_services(value):
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    kind = schema["properties"][value]["$ref"].rpartition("/")[2]
    pattern = schema["definitions"][kind]["pattern"]
    assert all(re.search(pattern, name) for name in ("", "a", "shop-2", 45 * "a"))
    assert not any(
        re.search(pattern, name) for name in ("shop.v2", "2shop", "shop-", "Shop", 46 * "a")
    )


def test_probes_ask_what_needs_no_key():
    service = container(manifests(), "service")
    port = str(service["ports"][0]["containerPort"])
    assert service["command"][-2:] == ["--port", port]
    probes = {name: probe["httpGet"] for name, probe in service.items() if name.endswith("Probe")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    assert {probe["path"] for probe in probes.values()} == set(PROBES)


def test_the_charts_version_is_the_packages():
    (chart,) = read(CHART / "Chart.yaml")
    assert chart["version"] == chart["appVersion"] == __version__


@pytest.mark.parametrize("file", sorted(CHART.glob("ci/*.yaml")), ids=lambda file: file.name)
def test_an_example_names_milvus(file):
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["milvus"]["uri"]
