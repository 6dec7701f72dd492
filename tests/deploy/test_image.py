# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The images are built, and do their work as their user on a root that cannot be written to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from built_image import BuiltImage, built

from paddlerec_milvus.retrieval.server_files import free_ports

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(1_800)]
TOOLS = ("buildah", "debootstrap", "unshare")
KEY = "admin-key-0123456789"
START_SECONDS = 60.0


@pytest.fixture(scope="module", autouse=True)
def _can_build() -> None:
    if missing := [name for name in TOOLS if shutil.which(name) is None]:
        pytest.skip(f"no {', '.join(missing)}: make deploy-check installs them as root")
    if os.geteuid():
        pytest.skip("a file system is mounted: that needs root")


@pytest.fixture(scope="module")
def image() -> Iterator[BuiltImage]:
    with built("serve") as one:
        yield one


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("paddle2onnx")
    from paddlerec_milvus.export.cli import main as export  # paddle

    out = tmp_path_factory.mktemp("export") / "mind"
    options = [f"runner.infer_load_path={trained.checkpoints}", "milvus.collection=deploy_check"]
    arguments = ["-m", "mind/config.yaml", "--data", str(trained.data), "--epoch", "0"]
    assert export([*arguments, "--out", str(out), "-o", *options, "index.type=FLAT"]) == 0
    return out


def test_what_it_holds(image: BuiltImage) -> None:
    packages = image.names("opt/venv/lib/python3*/site-packages/*.dist-info")
    with_names = {Path(one).name.partition("-")[0] for one in packages}
    absent = {"paddlepaddle", "paddle2onnx", "lightgbm", "milvus_lite", "pyarrow", "scipy", "pip"}
    assert with_names & absent == set()
    assert "paddlerec_milvus" in with_names
    for name in ("usr/bin/*gcc*", "usr/bin/c++", "usr/bin/cc", "usr/bin/curl", "etc/pip.conf"):
        assert image.names(name) == []
    assert image.config["User"] == "10001:10001"
    assert not [one for one in image.config["Env"] if one.startswith("PIP_")]
    print(f"{image.megabytes}, {len(packages)} packages in its environment")


def test_it_serves_an_export(image: BuiltImage, exported: Path, server, tmp_path: Path) -> None:
    """As PID 1, until the signal that stops a container; its probe is run beside it."""
    (port,) = free_ports(1)
    url, probe = f"http://127.0.0.1:{port}", image.config["Healthcheck"]["Test"]
    variables = {"SERVING_KEYS": f"admin:{KEY}", "MILVUS_URI": server.uri}
    began = time.perf_counter()
    command = [*image.config["Cmd"], "--port", str(port)]
    process = image.start(command, tmp_path, exported, **variables)
    try:
        with httpx.Client(base_url=url, headers={"X-API-Key": KEY}, timeout=60.0) as client:
            until_it_is_ready(client, process)
            print(f"ready in {time.perf_counter() - began:.1f} s")
            assert client.post("/insert").status_code == 200
            body = {"hist_item": [[3, 7], [12]], "top_k": 5}
            answer = client.post("/candidates", json=body).json()
            assert answer["source"] == ["model"] * 2
            assert [len(row) for row in answer["candidates"]] == [5, 5]
            assert httpx.post(f"{url}/candidates", json=body).status_code == 401  # keys are needed
        (first,) = psutil.Process(process.pid).children()
        words = [word.replace(":8000", f":{port}") for word in probe[1:]]
        beside = ["nsenter", "--target", str(first.pid), "--mount", "--root", "--wd=/"]
        subprocess.run([*beside, "env", *image.config["Env"], *words], check=True)
        assert set(first.uids()) == {10001}
        first.send_signal(signal.Signals[image.config["StopSignal"]])
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0, output
        assert "Traceback" not in output
    finally:
        process.kill()
    assert [file.name for file in tmp_path.iterdir()] == ["served"]


def until_it_is_ready(client: httpx.Client, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    process.kill()
    pytest.fail(f"it did not get ready: {process.communicate()[0]}")


def test_it_does_not_start_without_an_export(image: BuiltImage, tmp_path: Path) -> None:
    process = image.start(image.config["Cmd"], tmp_path)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "/export" in output
    assert "Traceback" not in output


def test_the_other_image_trains_and_exports(tmp_path: Path) -> None:
    with built("train") as image:
        print(image.megabytes)
        size = ("--users", "600", "--items", "300", "--clicks", "9000")
        data = ("-m", "mind/config.yaml", "--data", "data")
        small = ("-o", "runner.epochs=1", "hyper_parameters.neg_samples=128")
        for words in (
            ("doctor",),
            ("prepare", "--sample", *size, "--out", "data"),
            ("train", *data, *small),
            ("rank", *data, "--ranker", "trees", "--lists", "150", "--rounds", "5", *small[::2]),
            ("export", *data, "--out", "exported", *small[::2]),
        ):
            process = image.start(["paddlerec-milvus", *words], tmp_path)
            output, _ = process.communicate(timeout=600)
            assert process.returncode == 0, output
    assert (tmp_path / "exported" / "manifest.json").is_file()
