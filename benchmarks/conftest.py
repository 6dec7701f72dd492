# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the suites measure: a small sample log with a MIND on it, and item vectors; seeds are fixed.

    make bench      or:      pytest benchmarks --benchmark-only

Nothing here fails for being slow: runs are saved, and compared by ``--benchmark-compare``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paddlerec_milvus.bench.workload import Workload, synthetic_workload
from paddlerec_milvus.command import settings_for
from paddlerec_milvus.config import Settings
from paddlerec_milvus.data.cli import main as prepare
from paddlerec_milvus.evaluation.report import machine, versions
from paddlerec_milvus.retrieval.server import LocalMilvus
from paddlerec_milvus.training.cli import main as train
from paddlerec_milvus.zoo import ModelFolder

MODEL = "mind/config.yaml"
SIZE = ["--users", "2000", "--items", "2000", "--clicks", "60000"]


@pytest.fixture(autouse=True)
def _described(request: pytest.FixtureRequest) -> None:
    """Each saved figure carries what it was measured on, and with which parameters."""
    if "benchmark" in request.fixturenames:
        benchmark = request.getfixturevalue("benchmark")
        case = getattr(request.node, "callspec", None)
        benchmark.extra_info["machine"] = machine()
        benchmark.extra_info["versions"] = versions()
        benchmark.extra_info["parameters"] = dict(case.params) if case else {}


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """MIND's own yaml on the sample log; its checkpoint of epoch 0 is trained for a moment."""
    folder: Path = tmp_path_factory.mktemp("sample")
    data, out = folder / "data", folder / "out"
    assert prepare(["--sample", *SIZE, "--out", str(data)]) == 0
    options = [
        f"runner.model_save_path={out}",
        f"runner.infer_load_path={out}",
        *("runner.epochs=1", "runner.batches_per_epoch=20"),
        *("runner.valid_data_dir=", "runner.patience=0"),
        *("runner.infer_start_epoch=0", "runner.infer_end_epoch=1"),
    ]
    assert train(["-m", MODEL, "--data", str(data), "-o", *options]) == 0
    return settings_for(MODEL, options, data)


@pytest.fixture(scope="session")
def folder(settings: Settings) -> ModelFolder:
    return ModelFolder(settings.model_dir)


@pytest.fixture(scope="session")
def reader(settings: Settings, folder: ModelFolder) -> Any:
    """MIND's reader of the sample log, whole epochs."""
    files = sorted(settings.path("train_data_dir").iterdir())
    config = settings.dotted() | {"runner.batches_per_epoch": 0}
    return folder.reader(settings.runner.train_reader_path, files, config)


@pytest.fixture(scope="session")
def workload() -> Workload:
    """20,000 items of 64 dimensions, 256 users with 4 interests."""
    return synthetic_workload(
        items=20_000,
        dimension=64,
        users=256,
        interests=4,
        clusters=200,
        spread=0.7,
        norm_skew=0.0,
        metric="IP",
        seed=1,
    )


@pytest.fixture(scope="session")
def server() -> Iterator[LocalMilvus]:
    """A real Milvus server."""
    if importlib.util.find_spec("milvus") is None:
        pytest.skip("no real Milvus: pip install 'paddlerec-milvus[server]'")
    with LocalMilvus() as running:
        yield running
