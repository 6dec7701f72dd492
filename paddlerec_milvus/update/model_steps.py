# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The steps of an update that end at an export: prepare, train, rank, export."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paddlerec_milvus.command import settings_for
from paddlerec_milvus.errors import CheckpointError, DataError
from paddlerec_milvus.export.exported_model import ExportedModel
from paddlerec_milvus.ranking.files import FOLDER, RankerKind, read_manifest
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.trained_model import TrainedModel, checkpoint_of

CHECKPOINTS, DATA, START = "checkpoints", "data", "start"
DATED = ("--test-from", "--valid-from")  # options of prepare.py


@dataclass(frozen=True)
class ModelPlan:
    """What is trained, and on what."""

    yaml: str
    options: Sequence[str]
    data: Path | None
    """A prepared folder; None: ``log`` is prepared."""
    log: Path | None = None
    preparing: Sequence[str] = ()
    """Further options of prepare.py."""
    ranker: RankerKind | None = None
    """Which ranker to train; None: one of the old one's kind, if that has one."""
    is_trained: bool = False
    """Nothing is trained: the checkpoint of runner.infer_load_path is taken."""

    def words(self) -> list[str]:
        """What decides the model, to tell a run from one of another command.

        Not the dates of a split: those of a command that goes on on a later day are later.
        """
        pairs = zip(["", *self.preparing], self.preparing, strict=False)
        prepared = [
            word.partition("=")[0] if word.startswith(DATED) else word
            for before, word in pairs
            if before not in DATED
        ]
        parts = [self.yaml, *self.options, str(self.data), str(self.log), *prepared]
        return [*parts, str(self.ranker), str(self.is_trained)]


class ModelSteps:
    """The steps of ``plan`` in the folder ``place`` of a run. All raise UserError."""

    def __init__(self, plan: ModelPlan, place: Path) -> None:
        self._place = place
        self.plan = plan if plan.log is None else replace(plan, data=place / DATA)

    def settings(self, *options: str) -> Settings:
        """Of the model; what it writes lies in the run's folder."""
        folder = self._place / CHECKPOINTS
        own = [f"runner.model_save_path={folder}", f"runner.infer_load_path={folder}"]
        words = [*self.plan.options, *([] if self.plan.is_trained else own), *options]
        return settings_for(self.plan.yaml, words, self.plan.data)

    def prepare(self) -> str:
        """The log becomes a prepared folder."""
        from paddlerec_milvus.data.cli import main

        words = ["--interactions", str(self.plan.log), "--out", str(self.plan.data)]
        code = main([*words, *self.plan.preparing])
        if code in (130, 143):
            raise KeyboardInterrupt
        if code:
            raise DataError(f"{self.plan.log}: cannot be prepared, as was said above")
        return str(self.plan.data)

    def train(self, earlier: tuple[Path, ExportedModel] | None) -> str:
        """From scratch, or from the checkpoint and the export of an ``earlier`` run.

        One that was stopped goes on.
        """
        from paddlerec_milvus.training.trainer import train  # paddle

        options = []
        if earlier is not None:
            from paddlerec_milvus.update.warm_start import write_start

            write_start(*earlier, self.settings(), self._place / START)
            options = [f"runner.model_init_path={self._place / START}"]
        train(self.settings(*options), resume=True)
        trained = self.trained()
        return f"epoch {trained.epoch} of {trained.checkpoint.parent}"

    def trained(self) -> TrainedModel:
        """The checkpoint: the best, else the last."""
        settings = self.settings()
        return TrainedModel(settings, checkpoint_of(settings.path("infer_load_path")))

    def rank(self, old: ExportedModel | None) -> str:
        """A ranker beside the checkpoint, if there is to be one."""
        kind = self.plan.ranker or ranker_kind(old)
        if kind is None:
            if not self.plan.is_trained:  # one of before ``current`` was moved
                shutil.rmtree(self.trained().checkpoint / FOLDER, ignore_errors=True)
            return "no ranker"
        from paddlerec_milvus.ranking.cli import THREADS
        from paddlerec_milvus.ranking.training import train_ranking  # paddle

        model = train_ranking(self.trained(), threads=THREADS, kind=kind)
        return f"{kind} from {model.manifest.lists:,} lists"

    def export(self, out: Path) -> str:
        """The export ``out``, compared with the checkpoint."""
        from paddlerec_milvus.export.exporting import export_model  # paddle

        manifest = export_model(self.trained(), out).manifest
        return f"{manifest.key}, {manifest.items:,} items, differs by {manifest.difference:.1e}"


def ranker_kind(export: ExportedModel | None) -> RankerKind | None:
    """Of the ranker in ``export``; None: it has none. CheckpointError: it is damaged."""
    if export is None or not export.manifest.ranker:
        return None
    return read_manifest(export.checkpoint / FOLDER).ranker


def last_checkpoint(run: Path) -> Path:
    """Of the run in the folder ``run``. CheckpointError: there is none."""
    try:
        return checkpoint_of(run / CHECKPOINTS)
    except CheckpointError as error:
        raise CheckpointError(f"--from last: {error}; train this one from scratch") from None


def prepare_words(text: str) -> list[str]:
    """The words of one quoted argument. DataError: it is not quoted as for a shell."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise DataError(f"--prepare: {error}: quote it as for a shell") from None
