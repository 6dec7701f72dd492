# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Dockerfile and compose file: they set what the service reads, and nothing is left open."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT

import paddlerec_milvus
from paddlerec_milvus.retrieval.redis_store import checked_address
from paddlerec_milvus.serving.auth import Keys
from paddlerec_milvus.serving.settings import VARIABLES

DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile"
COMPOSE = DEPLOY / "compose.yaml"
EXAMPLE = DEPLOY / ".env.example"
MILVUS = ("MILVUS_URI", "MILVUS_TOKEN")
SECRET = "0123456789abcdef"
FILLED = EXAMPLE.read_text().replace("SERVING_KEYS=", f"SERVING_KEYS=read:{SECRET}")
FILLED = re.sub(r"^(\w+)=$", rf"\1={SECRET}", FILLED, flags=re.MULTILINE)


def compose(text: str = COMPOSE.read_text()) -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(text)["services"]
    return services


def filled() -> dict[str, Any]:
    """The services as they are with every variable of the example filled in."""
    text = COMPOSE.read_text()
    for name, value in re.findall(r"^(\w+)=(.*)$", FILLED, re.MULTILINE):
        text = re.sub(rf"\$\{{{name}:\?[^}}]*\}}", value, text)
    return compose(text)


def tool(name: str) -> str:
    """The path of a tool that comes with the extra [deploy], or with Debian."""
    path = shutil.which(name, path=Path(sys.executable).parent) or shutil.which(name)
    if path is None:
        pytest.skip(f"no {name}: make deploy-check installs it")
    return path


def test_what_is_set_for_the_service_is_what_it_reads() -> None:
    environment = filled()["candidates"]["environment"]
    assert [name for name in environment if name not in (*VARIABLES, *MILVUS)] == []
    assert checked_address(environment["SERVING_HISTORIES"])
    assert Keys.parse(environment["SERVING_KEYS"]).entries
    assert environment["MILVUS_URI"] == "http://milvus:19530"
    assert "candidates" in environment["SERVING_HOSTS"].split(",")  # Prometheus calls it so
    set_by_image = re.findall(r"SERVING_\w+(?==)", DOCKERFILE.read_text())
    assert set_by_image
    assert set(set_by_image) <= set(VARIABLES)


def test_nothing_has_a_password_of_its_own() -> None:
    used = dict(re.findall(r"\$\{(\w+):(\?)", COMPOSE.read_text()))
    asked = dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))
    assert set(used) == set(asked)
    secrets = {name for name in asked if name.endswith(("PASSWORD", "KEYS"))}
    assert {name for name in secrets if asked[name]} == set()
    assert re.findall(r"(?<!\$)\$\{\w+(?!\w|:\?)", COMPOSE.read_text()) == []  # none by default


@pytest.mark.parametrize("name", compose())
def test_a_service_is_guarded_limited_and_looked_after(name: str) -> None:
    service = compose()[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit"} <= set(service)
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert "healthcheck" in service or name == "candidates"  # the image has one
    waits = service.get("depends_on", {}).values()
    assert all(one["condition"] == "service_healthy" for one in waits)
    assert ":latest" not in service["image"]
    assert ":" in service["image"]
    assert service.get("read_only") or name in ("milvus", "minio")
    places = [volume.split(":")[0] for volume in service.get("volumes", ())]
    assert [one for one in places if one.startswith("./") and not (DEPLOY / one).exists()] == []


def test_images_have_the_version_of_the_package() -> None:
    version = paddlerec_milvus.__version__
    assert compose()["candidates"]["image"] == f"paddlerec-milvus:{version}"
    labels = re.findall(r'image\.version="([^"]*)"', DOCKERFILE.read_text())
    assert labels == [version, version]


def test_redis_refuses_clicks_before_the_kernel_ends_it() -> None:
    redis = compose()["redis"]
    (most,) = re.findall(r"--maxmemory (\d+)mb ", redis["command"][-1])
    assert redis["mem_limit"] == "1g"
    assert int(most) < 0.7 * 1024


def test_the_image_has_as_long_to_start_as_a_pod() -> None:
    (seconds,) = re.findall(r"--start-period=(\d+)s", DOCKERFILE.read_text())
    values = yaml.safe_load((DEPLOY / "chart" / "values.yaml").read_text())
    assert int(seconds) == values["probes"]["startSeconds"]


@pytest.mark.deploy
def test_hadolint() -> None:
    done = subprocess.run([tool("hadolint"), DOCKERFILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.deploy
@pytest.mark.parametrize(
    "words",
    [["check-jsonschema", "--builtin-schema", "vendor.compose-spec"], ["compose-lint", "check"]],
    ids=["schema", "lint"],
)
def test_the_compose_file(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "exports" / "mind").mkdir(parents=True)
    (tmp_path / "deploy").mkdir()
    file = shutil.copy(COMPOSE, tmp_path / "deploy")
    (tmp_path / "deploy" / ".env").write_text(FILLED)
    command = [tool(words[0]), *words[1:], file]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
