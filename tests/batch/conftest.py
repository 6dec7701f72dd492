# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A trained MIND with a small ranker, its export, and commands over its users."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from paddlerec_milvus.batch.cli import main as batch
from paddlerec_milvus.command import settings_for
from paddlerec_milvus.export.cli import main as export
from paddlerec_milvus.ranking.training import train_ranking
from paddlerec_milvus.trained_model import TrainedModel


@dataclass(frozen=True)
class SmallModel:
    """Of 300 items, with 600 users."""

    data: Path
    checkpoints: Path
    folder: Path

    @property
    def place(self) -> str:
        return f"runner.infer_load_path={self.checkpoints}"

    @property
    def model(self) -> list[str]:
        """The arguments that name it; options follow the last."""
        lite = f"milvus.uri={self.folder / 'milvus.db'}"
        own = [self.place, "hyper_parameters.neg_samples=128", "index.type=FLAT", lite]
        return ["-m", "mind/config.yaml", "--data", str(self.data), "-o", *own]

    @property
    def exported(self) -> Path:
        return self.folder / "export"

    def run(self, *flags: str, options: tuple[str, ...] = ()) -> int:
        return batch([*flags, *self.model, *options])

    def lists(self, out: Path, *flags: str, options: tuple[str, ...] = ()) -> pl.DataFrame:
        """Exact lists of 20, made in ``out``."""
        usual = ("--exact", "--top_k", "20", "--part-users", "100")
        assert self.run(*usual, *flags, "--out", str(out), options=options) == 0
        return rows_of(out)


def rows_of(out: Path) -> pl.DataFrame:
    return pl.read_parquet(sorted(out.glob("part-*.parquet")))


@pytest.fixture(scope="session")
def small(trained, tmp_path_factory: pytest.TempPathFactory) -> SmallModel:
    folder = tmp_path_factory.mktemp("batch")
    small = SmallModel(trained.data, folder / "out", folder)
    shutil.copytree(trained.checkpoints, small.checkpoints)
    options = small.model[small.model.index("-o") + 1 :]
    settings = settings_for("mind/config.yaml", options, trained.data)
    best = TrainedModel(settings, small.checkpoints / "best")
    train_ranking(best, kind="trees", most_lists=80, rounds=2)
    return small


@pytest.fixture(scope="session")
def exported(small: SmallModel) -> Path:
    pytest.importorskip("paddle2onnx")
    assert export(["--out", str(small.exported), *small.model]) == 0
    return small.exported
