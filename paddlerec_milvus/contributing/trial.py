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
import paddle

from paddlerec_milvus.collate import seed_everything
from paddlerec_milvus.command import reads_click_log, settings_for
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
FIRST = 4  # batches whose loss is compared before and after


def copied_state(model: Any) -> dict[str, Any]:
    """The parameters and buffers of ``model`` as they are now."""
    return {name: value.clone() for name, value in model.state_dict().items()}


@dataclass
class TrialRun:
    """A short training run, what it began with, and the steps of each of its epochs."""

    out: Path
    """Of the checkpoints."""
    trainer: Trainer
    start: dict[str, Any] = field(default_factory=dict)
    """The model's state before the first step."""
    first: list[Any] = field(default_factory=list)
    """The first batches."""
    steps: list[int] = field(default_factory=list)

    def loss(self, state: dict[str, Any]) -> float:
        """The mean loss of :attr:`first` with the model in ``state``, from the same draws."""
        model, contract, config = self.trainer.model, self.trainer.contract, self.trainer.config
        metrics, _ = contract.create_metrics()
        now = copied_state(model)
        model.set_state_dict(state)
        model.train()
        seed_everything(self.trainer.settings.runner.seed)
        with self.trainer.folder.active(), paddle.no_grad():
            losses = [contract.train_forward(model, metrics, one, config)[0] for one in self.first]
        model.set_state_dict(now)
        return float(np.mean([float(loss) for loss in losses]))


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
        return reads_click_log(self.yaml.parent)

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
        run = TrialRun(out, trainer)
        forward, batches = trainer.contract.train_forward, trainer.batches

        def counted(dy_model: Any, metrics: Any, batch: Any, config: Any) -> Any:
            run.start = run.start or copied_state(dy_model)
            run.first += [batch][: FIRST - len(run.first)]
            result = forward(dy_model, metrics, batch, config)
            if not isinstance(result, tuple) or len(result) != 3:
                raise ModelError(
                    f"{self.yaml.parent.name}: train_forward gives {type(result).__name__}, "
                    "expected (loss, metrics_list, print_dict or None)"
                )
            run.steps[-1] += 1
            if sum(run.steps) == stop_at:
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
        finally:
            trainer.contract.train_forward = forward  # type: ignore[method-assign]
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
