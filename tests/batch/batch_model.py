# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The model that lists of all users are made by, and what is read of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from paddlerec_milvus.batch.cli import main as batch


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
