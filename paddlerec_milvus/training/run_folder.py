# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The folder of a run's checkpoints: what is recorded of each, and other runs' moved aside."""

from __future__ import annotations

import json
import logging
import platform
from datetime import datetime, timezone
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

from paddlerec_milvus.checkpoint import BEST, PREFIX, best_epoch
from paddlerec_milvus.checkpoint_record import CheckpointRecord, data_of, read_record
from paddlerec_milvus.command import warn
from paddlerec_milvus.data.files import sha256_of
from paddlerec_milvus.errors import CheckpointError, DataError, SettingsError
from paddlerec_milvus.ranking.files import FOLDER as RANKING
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.training.checkpoint import INTERRUPTED

logger = logging.getLogger(__name__)

ASIDE = "earlier"
PACKAGES = ("paddlerec-milvus", "paddlepaddle", "paddlepaddle-gpu", "numpy")
# of the section runner: what changes no parameter, and folders, which the data's fingerprint covers
WITHOUT_EFFECT = {
    *("train_data_dir", "valid_data_dir", "test_data_dir", "model_save_path", "last_epoch"),
    *("infer_load_path", "infer_start_epoch", "infer_end_epoch", "infer_batch_size"),
    *("infer_reader_path", "print_interval", "use_visual"),
}


class RunFolder:
    """``runner.model_save_path`` of a run; only the leader of several processes writes there."""

    def __init__(self, settings: Settings, device: str, processes: int) -> None:
        self.path = settings.path("model_save_path")
        self.outdates: Path | None = None
        """A file about the run that ended here: it goes when another one saves."""
        self._makes_way = False
        self.record = _record_of(settings, device, processes)
        """Of this run; epoch, time and files are filled in by :meth:`record_of`."""
        logger.info("data %s; checkpoints go to %s", self.record.data, self.path)

    def require_alike(self, leader: CheckpointRecord) -> None:
        """SettingsError: this process, on a host of its own, would train something else."""
        if differing := leader.differences(self.record):
            raise SettingsError(
                f"the host {platform.node()} would train something else than process 0's: "
                f"{'; '.join(differing)}; give all hosts the same data, code and settings"
            )

    def require_here(self, checkpoint: Path) -> None:
        """CheckpointError: process 0 resumes from a folder that this host does not see."""
        if not checkpoint.is_dir():
            raise CheckpointError(
                f"{checkpoint}: process 0 resumes from it, and the host {platform.node()} has no "
                "such folder: let all hosts share runner.model_save_path, or copy it there"
            )

    def record_of(self, epoch: int) -> CheckpointRecord:
        """The record of the checkpoint that is saved now, in ``epoch``."""
        now = datetime.now(timezone.utc).isoformat()
        return self.record.model_copy(update={"epoch": epoch, "saved": now})

    def start_anew(self) -> None:
        """Look what lies there before a run from epoch 0, and say loudly what will move aside."""
        self._makes_way = True
        places = self._earlier()
        if not places:
            if any(_checkpoints(self.path)):
                logger.info(
                    "%s holds epochs of the same run (the same data, settings and code), which did "
                    "not end: they are replaced",
                    self.path,
                )
            return
        others = [place for place in places if self._is_other(place)]
        record = read_record(others[-1]) if others else self.record
        differing = record.differences(self.record) if record is not None else []
        words = "; ".join(differing) or "it does not say of which data and settings"
        warn(
            f"{self.path} holds {', '.join(place.name for place in places)} of "
            + (f"another run: {words}" if others else "this run, which ended"),
            f"they move to {self._aside()} as soon as this run saves a checkpoint; nothing is "
            "lost, and --resume would go on where that run stopped",
        )

    def make_way(self) -> None:
        """Before the first save of a new run: what is to be kept moves aside, in whole folders."""
        if not self._makes_way:
            return
        self._makes_way = False
        aside = self._aside()
        try:
            if self.outdates is not None:
                self.outdates.unlink(missing_ok=True)
            for place in self._earlier():
                aside.mkdir(exist_ok=True)
                place.rename(aside / place.name)
        except OSError as error:
            raise CheckpointError(
                f"{self.path}: an earlier run's epochs cannot be moved to {aside}: "
                f"{error.strerror or error}; set another runner.model_save_path"
            ) from error
        if aside.is_dir():
            warn(f"moved {', '.join(sorted(p.name for p in aside.iterdir()))} to {aside}")

    def resume_from(self, checkpoint: Path) -> None:
        """Go on with the run of ``checkpoint``. CheckpointError: it was trained on other data."""
        before = read_record(checkpoint)
        if before is None:
            logger.info("%s does not say on which data it was trained", checkpoint)
            return
        if before.data.fingerprint != self.record.data.fingerprint:
            raise CheckpointError(
                f"{checkpoint}: was trained on the data {before.data}, but this run's is "
                f"{self.record.data}: give that data to go on with it; without --resume a new run "
                "starts, and what is there is moved aside"
            )
        changed = before.differences(self.record)
        if changed:
            logger.info("resumed with another %s", "; ".join(changed))
        self.record = self.record.model_copy(update={"run": before.run})

    def check_start(self, checkpoint: Path) -> None:
        """Say loudly where the parameters that a run starts from are of other data."""
        before = read_record(checkpoint)
        if before is not None and before.data.fingerprint != self.record.data.fingerprint:
            warn(
                f"runner.model_init_path: {checkpoint} was trained on the data {before.data}, this "
                f"run's is {self.record.data}: the same number is another item in another log"
            )

    def _earlier(self) -> list[Path]:
        """Folders of checkpoints that a new run moves aside: all, or none that it may replace.

        It replaces those of the same run alone, where that did not end and has no ranker.
        """
        places = _checkpoints(self.path)
        others = any(self._is_other(place) for place in places)
        return places if others or self._ended(places) else []

    def _is_other(self, place: Path) -> bool:
        """Whether the checkpoint is not known to be of this run with these very settings."""
        record = read_record(place)
        if record is None or record.run != self.record.run:
            return True
        return bool(record.differences(self.record))  # a resume keeps the run with other settings

    def _ended(self, places: list[Path]) -> bool:
        """Whether the run came to its last epoch, by number or patience, or has a ranker."""
        last = max((int(place.name) for place in places if place.name.isdecimal()), default=-1)
        patience: int = self.record.settings["runner.patience"]
        ranked = any((place / RANKING).is_dir() for place in places)
        if ranked or last + 1 >= self.record.settings["runner.epochs"]:
            return True
        has_best = patience > 0 and self.path / BEST in places
        return has_best and last - best_epoch(self.path) >= patience

    def _aside(self) -> Path:
        """The first free place for what earlier runs left."""
        places = (self.path / f"{ASIDE}-{number}" for number in count(1))
        return next(place for place in places if not place.exists())


def _checkpoints(folder: Path) -> list[Path]:
    """The epochs in their order, then what was interrupted and the best."""
    places = [file.parent for file in folder.glob("*/rec.pdparams")]
    epochs = [place for place in places if place.name.isdecimal()]
    named = [place for place in places if place.name in (INTERRUPTED, BEST)]
    return [*sorted(named), *sorted(epochs, key=lambda place: int(place.name))]


def _record_of(settings: Settings, device: str, processes: int) -> CheckpointRecord:
    data = data_of(settings, held_out=False)
    if data is None:
        raise DataError(f"runner.train_data_dir: {settings.path('train_data_dir')}: no such folder")
    runner = settings.runner.model_dump(exclude=WITHOUT_EFFECT)
    trained_by: dict[str, Any] = {f"runner.{key}": value for key, value in runner.items()}
    for key, value in settings.hyper_parameters.items():
        trained_by[f"hyper_parameters.{key}"] = value
    if settings.runner.model_init_path is not None:
        start = settings.path("model_init_path") / f"{PREFIX}.pdparams"
        trained_by["runner.model_init_path.sha256"] = sha256_of(start)
    trained_by |= {"device": device, "processes": processes}
    versions = _versions(settings.model_dir)
    parts = json.dumps([data.fingerprint, trained_by, versions], sort_keys=True, default=str)
    return CheckpointRecord(
        run=sha256(parts.encode()).hexdigest()[:16],
        model=settings.model_dir.name,
        epoch=0,
        data=data,
        seed=settings.runner.seed,
        settings=trained_by,
        versions=versions,
        saved="",
    )


def _versions(model_dir: Path) -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    code = sha256()
    for source in sorted(model_dir.glob("*.py")):
        code.update(source.name.encode() + b"\0" + source.read_bytes())
    return {**versions, "code": code.hexdigest()[:16]}
