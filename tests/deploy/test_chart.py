# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The chart under helm and kubernetes-validate, which ``make deploy-check`` gets."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart_files import CHART, MANIFESTS, chart_program, container, documents_of, environment_of

from paddlerec_milvus.serving.settings import VARIABLES

HELM = shutil.which("helm")
VALIDATE = Path(sys.executable).with_name("kubernetes-validate")
EXAMPLES = ("cluster", "smallest", "update")
NAME = "example-paddlerec-milvus"
WITHOUT_SCHEMA = {"ServiceMonitor", "PrometheusRule"}  # of Prometheus' operator
MILVUS = "milvus.uri=http://milvus:19530"
SMALLEST = (MILVUS, "open=true", "export.image=mind:1")

pytestmark = [
    pytest.mark.deploy,
    pytest.mark.skipif(HELM is None, reason="no helm: make deploy-check gets it"),
]


def helm(*words: str, code: int = 0) -> str:
    done = subprocess.run([HELM, *words], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def rendered(example: str) -> list[Any]:
    file = CHART / "ci" / f"{example}-values.yaml"
    return documents_of(helm("template", "example", str(CHART), "-f", str(file)))


def refusal(*values: str) -> str:
    words = [word for value in values for word in ("--set", value)]
    return helm("template", "example", str(CHART), *words, code=1)


def kinds(documents: list[Any]) -> list[str]:
    return sorted(document["kind"] for document in documents)


@pytest.mark.parametrize("example", EXAMPLES)
def test_lint_has_nothing_to_say(example):
    file = CHART / "ci" / f"{example}-values.yaml"
    said = helm("lint", "--strict", str(CHART), "-f", str(file))
    assert "0 chart(s) failed" in said
    assert "[WARNING]" not in said


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_document_is_valid(example, tmp_path):
    if not VALIDATE.exists():
        pytest.skip("no kubernetes-validate: pip install 'paddlerec-milvus[deploy]'")
    files = []
    for number, document in enumerate(rendered(example)):
        if document["kind"] not in WITHOUT_SCHEMA:
            files.append(tmp_path / f"{number}.yaml")
            files[-1].write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [VALIDATE, "--strict", *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_examples_hold():
    alike = ["Deployment", "Secret", "Service", "ServiceAccount"]
    assert kinds(rendered("smallest")) == alike
    others = ["HorizontalPodAutoscaler", "NetworkPolicy", "NetworkPolicy", "PersistentVolumeClaim"]
    others += ["PodDisruptionBudget", "Service", "StatefulSet"]
    assert kinds(rendered("cluster")) == sorted(
        [*others, "Deployment", "Service", "ServiceAccount"]
    )
    others = ["CronJob", "Ingress", "NetworkPolicy", "NetworkPolicy", "PodDisruptionBudget"]
    others += ["PrometheusRule", "ServiceMonitor"]
    assert kinds(rendered("update")) == sorted([*alike, *others])


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_service_knows_every_variable(example):
    names = environment_of(rendered(example), "service")
    assert {name for name in names if name.startswith("SERVING_")} <= set(VARIABLES)


def test_values_become_variables_as_they_were_written():
    documents = rendered("update")
    variables = environment_of(documents, "service")
    assert variables["SERVING_MAX_BODY"] == "8388608"
    assert variables["SERVING_TIMEOUT"] == "1.5"
    assert variables["SERVING_HOSTS"].split(",") == [
        *("shop.example.com", NAME, f"{NAME}.default", f"{NAME}.default.svc"),
        *(f"{NAME}.default.svc.cluster.local", "$(POD_IP)"),
    ]
    (secret,) = (one["stringData"] for one in documents if one["kind"] == "Secret")
    assert secret["SERVING_KEYS"].split(",")[0] == "read:read-key-of-this-example"
    assert secret["SERVING_KEYS"].endswith(f",admin:{secret['SERVING_KEY']}")
    assert not set(secret) & set(VARIABLES) - set(variables)


def test_the_job_runs_once_and_alone():
    documents = rendered("update")
    (job,) = (one["spec"] for one in documents if one["kind"] == "CronJob")
    assert job["concurrencyPolicy"] == "Forbid"
    assert job["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert container(documents, "update")["args"] == [
        *("-m", "mind/config.yaml", "--data", "/data", "--service", f"http://{NAME}:8000"),
        *("--exports", "/exports", "--gate", "recall@50=-0.01"),
    ]
    assert environment_of(documents, "update")["SERVING_KEY"]["secretKeyRef"]["name"] == NAME


def test_pods_that_may_not_overlap_are_replaced_one_after_the_other():
    def strategy(documents: list[Any]) -> str:
        (own,) = (one["spec"] for one in documents if one["kind"] == "Deployment")
        return str(own["strategy"]["type"])

    assert strategy(rendered("cluster")) == "RollingUpdate"
    assert strategy(rendered("smallest")) == "Recreate"  # clicks go to Milvus from one process


@pytest.mark.parametrize("release", [53 * "a", "shop.v2", 44 * "a" + ".b", "paddlerec.milvus"])
def test_names_leave_room_for_what_kubernetes_adds(release):
    def names(kind: str) -> list[str]:
        return [one["metadata"]["name"] for one in documents if one["kind"] == kind]

    file = CHART / "ci" / "update-values.yaml"
    values = ["--set", "redis.kind=own,redis.password=password-of-this-example"]
    documents = documents_of(helm("template", release, str(CHART), "-f", str(file), *values))
    (job,), (redis,) = names("CronJob"), names("StatefulSet")
    assert len(job) <= 52
    assert len(redis) + len("-0123456789") <= 63  # a label of its pods
    for name in names("Service"):
        assert re.fullmatch("[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name)


def test_a_release_that_begins_with_a_digit_needs_another_name():
    words = [word for value in SMALLEST for word in ("--set", value)]
    said = helm("template", "2shop", str(CHART), *words, code=1)
    assert "fullnameOverride: a Service has a name that begins with a letter" in said
    helm("template", "2shop", str(CHART), *words, "--set", "fullnameOverride=shop")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (("open=true", "export.image=mind:1"), "milvus.uri: there is no address of Milvus: set it"),
        ((*SMALLEST, "replicas=2"), "redis.kind: 2 replicas without Redis"),
        ((*SMALLEST, "autoscaling.enabled=true"), "redis.kind: 6 replicas without Redis"),
        ((*SMALLEST, "replicas=2"), "storage.accessMode: 2 replicas without a volume that they"),
        ((*SMALLEST, "replicas=2"), "export.image: is for one replica"),
        ((MILVUS, "export.image=mind:1"), "keys: others can reach the service, and it has no keys"),
        ((MILVUS, "open=true"), "there is no export: set storage.existingClaim"),
        ((*SMALLEST, "redis.kind=own"), "redis.password: set it"),
        ((*SMALLEST, "redis.kind=external"), "redis.url: set it"),
        ((*SMALLEST, "update.enabled=true"), "update.enabled: the job writes the exports"),
        ((*SMALLEST, "update.enabled=true"), "keys.admin: the job of update.enabled inserts"),
        ((*SMALLEST, "ingress.enabled=true"), "ingress.host: set the name"),
        ((*SMALLEST, "replica=2"), "additional properties 'replica' not allowed"),
        ((*SMALLEST, "settings.SERVING_TIMOUT=2"), "'SERVING_TIMOUT' not allowed"),
        ((*SMALLEST, "settings.SERVING_KEYS=a"), "'SERVING_KEYS' not allowed"),
        ((*SMALLEST, "settings.SERVING_MISMATCH=replace"), "'refuse', 'insert'"),
        (("milvus.uri=http://root:Milvus@milvus:19530",), "milvus/uri"),
        ((*SMALLEST, "keys.read={short}"), "keys/read"),
        ((*SMALLEST, "fullnameOverride=shop.v2"), "fullnameOverride"),
        ((*SMALLEST, "nameOverride=2shop"), "nameOverride"),
        ((*SMALLEST, "redis.maxMemory=1Gi"), "redis/maxMemory"),
    ],
)
def test_what_cannot_work_is_refused(values, words):
    assert words in refusal(*values)


def test_all_problems_are_said_at_once():
    assert refusal().count("\n- ") == 3


def test_the_plain_manifests_are_the_charts():
    files = chart_program().manifests(HELM)
    kept = {file.name: file.read_text(encoding="utf-8") for file in MANIFESTS.glob("*")}
    assert kept == files, "make chart"
