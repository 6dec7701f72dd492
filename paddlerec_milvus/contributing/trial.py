# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A model folder under check: its settings made small, runs of it, and what it gives."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.command import settings_for
from paddlerec_milvus.config import source_strings
from paddlerec_milvus.contributing.check_results import NotApplicableError
from paddlerec_milvus.encoder import Encoder
from paddlerec_milvus.errors import ModelError
from paddlerec_milvus.evaluation.predict import Queries, read_users
from paddlerec_milvus.forward import ForwardModel
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.training.stopping import Interrupted
from paddlerec_milvus.training.trainer import Trainer
from paddlerec_milvus.zoo import ModelFolder

FloatArray = npt.NDArray[np.float32]

EPOCHS = 2
QUERIES = 48  # users whose vectors are compared


@dataclass
class TrialRun:
    """A short training run: where its checkpoints are, its losses, and the steps of each epoch."""

    out: Path
    losses: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    trainer: Trainer | None = None


@dataclass
class Trial:
    """The folder of ``yaml``, with all that it writes in ``place``, an empty folder."""

    yaml: Path
    options: Sequence[str]
    data: Path | None
    place: Path
    most_steps: int
    """Of an epoch."""

    @property
    def own_options(self) -> list[str]:
        """What makes a run small, writes nowhere else and needs no server."""
        own = {
            "runner.epochs": EPOCHS,
            "runner.print_interval": 1_000_000,
            "runner.use_visual": False,
            "runner.patience": 0,
            "runner.valid_data_dir": "",
            "runner.model_save_path": self.place / "whole",
            "runner.infer_load_path": self.place / "whole",
            "runner.infer_start_epoch": EPOCHS - 1,
            "runner.infer_end_epoch": EPOCHS,
            "milvus.uri": self.place / "milvus.db",
            "milvus.token": "",
            "index.type": "FLAT",
        }
        return [*self.options, *(f"{key}={value}" for key, value in own.items())]

    @cached_property
    def settings(self) -> Settings:
        """The folder's settings; SettingsError for a key that nothing reads."""
        return settings_for(self.yaml, self.own_options, self.data)

    @cached_property
    def folder(self) -> ModelFolder:
        """The folder's code."""
        return ModelFolder(self.yaml.parent)

    @property
    def reads_clicks(self) -> bool:
        """Whether the folder trains on a click log, as --data brings it."""
        return any(text.endswith("item_count") for text in source_strings(self.yaml.parent))

    @cached_property
    def searched(self) -> bool:
        """Whether it is a recall model, with item vectors to be searched."""
        return ForwardModel(self.settings).searched

    def require_searched(self) -> None:
        """NotApplicableError for a folder without item vectors."""
        if not self.searched:
            raise NotApplicableError("the folder has no item vectors to be searched")

    def train(self, out: Path, *, stop_at: int | None = None, resume: bool = False) -> TrialRun:
        """A run of ``most_steps`` an epoch into ``out``; as by Ctrl-C in step ``stop_at``."""
        own = [f"runner.model_save_path={out}", f"runner.infer_load_path={out}"]
        settings = settings_for(self.yaml, [*self.own_options, *own], self.data)
        trainer = Trainer(settings, ModelFolder(settings.model_dir), resume)
        run = TrialRun(out, trainer=trainer)
        forward, batches = trainer.contract.train_forward, trainer.batches

        def counted(dy_model: Any, metrics: Any, batch: Any, config: Any) -> Any:
            result = forward(dy_model, metrics, batch, config)
            if not isinstance(result, tuple) or len(result) != 3:
                raise ModelError(
                    f"{self.yaml.parent.name}: train_forward gives {type(result).__name__}, "
                    "expected (loss, metrics_list, print_dict or None)"
                )
            run.losses.append(float(result[0]))
            run.steps[-1] += 1
            if len(run.losses) == stop_at:
                signal.raise_signal(signal.SIGINT)
            return result

        def few(epoch: int) -> Iterator[Any]:
            run.steps.append(0)
            return islice(batches(epoch), self.most_steps)

        trainer.contract.train_forward = counted  # type: ignore[method-assign, assignment]
        trainer.batches = few
        try:
            trainer.run()
        except Interrupted:
            if stop_at is None:
                raise
        return run

    @cached_property
    def whole(self) -> TrialRun:
        """A run that nothing stops."""
        return self.train(self.place / "whole")

    @cached_property
    def encoder(self) -> Encoder:
        """The last checkpoint of :attr:`whole`, loaded into a fresh model."""
        encoder = Encoder(self.settings, ModelFolder(self.yaml.parent))
        encoder.load(self.whole.out / str(EPOCHS - 1))
        return encoder

    @cached_property
    def queries(self) -> Queries:
        """The first test users, with the shortest histories among them."""
        users = read_users(self.settings, "test_data_dir")
        queries = Queries.of(users, self.encoder.maxlen, exclude_history=False)
        shortest = np.argsort(queries.lengths, kind="stable")[: QUERIES // 4]
        rows = np.concatenate([shortest, np.arange(len(queries.lengths))])
        _, first = np.unique(rows, return_index=True)
        return queries[rows[np.sort(first)][:QUERIES]]

    def vectors(self, queries: Queries | None = None, encoder: Encoder | None = None) -> FloatArray:
        """Vectors [B, K, D] of :attr:`queries`, or of these."""
        one = self.queries if queries is None else queries
        return (encoder or self.encoder).interests(one.histories, one.lengths, one.users)
