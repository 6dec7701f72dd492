# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""From clicks to a trained run: the log is prepared as by ``prepare.py``, and trained on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from paddlerec_milvus.api.frames import (
    Frame,
    checked_columns,
    library_of,
    log_frame,
    titles_frame,
)
from paddlerec_milvus.api.python_words import option_texts, quiet_import
from paddlerec_milvus.api.trained_run import (
    CHECKPOINTS,
    DATA,
    RUN_FILE,
    RunDescription,
    TrainedRun,
    is_prepared,
    yaml_of,
)
from paddlerec_milvus.checkpoint import PREFIX
from paddlerec_milvus.checkpoint_record import read_record
from paddlerec_milvus.config import load_settings
from paddlerec_milvus.data.log_options import LogOptions
from paddlerec_milvus.data.prepare import prepare
from paddlerec_milvus.data.sources import DataFrameLog, Interactions, Source
from paddlerec_milvus.data.split import DEFAULT_MIN_COUNT, DEFAULT_SEED
from paddlerec_milvus.data.split_choice import SplitChoice
from paddlerec_milvus.data.staging import recover
from paddlerec_milvus.errors import DataError, ModelError, SettingsError
from paddlerec_milvus.settings import PATH_KEYS

RUNS = Path("output")


@dataclass(frozen=True)
class Fitting:
    """What :meth:`Recommender.fit` was called with; see there."""

    clicks: Frame | str | Path
    model: str
    items: Frame | str | Path | None = None
    columns: Mapping[str, str] | None = None
    string_ids: bool = False
    min_count: int = DEFAULT_MIN_COUNT
    split: SplitChoice = SplitChoice()  # noqa: RUF009  (frozen)
    options: Mapping[str, Any] | Sequence[str] = ()
    seed: int | None = None
    folder: str | Path | None = None
    resume: bool = False

    def run(self) -> TrainedRun:
        """Prepare, train, and say where all of it is.

        What of it is done already, in ``folder``, is not done again.
        """
        options = _checked(option_texts(self.options), self.seed)
        yaml = yaml_of(self.model)
        load_settings(yaml, options)  # a mistake in it need not wait for the log
        source = self._source()
        with _made(self._folder(yaml)) as folder:
            return self._trained(folder, yaml, options, source)

    def _trained(
        self, folder: Path, yaml: str, options: Sequence[str], source: Source | None
    ) -> TrainedRun:
        if source is None:
            data, is_new = Path(self.clicks).resolve(), False
        else:
            seed = DEFAULT_SEED if self.seed is None else self.seed
            outcome = prepare(source, folder / DATA, seed, self.min_count, split=self.split)
            data, is_new = outcome.folder, not outcome.already
        description = RunDescription(
            yaml=yaml,
            options=tuple(options),
            data=DATA if source is not None else str(data),
            library=library_of(self.clicks) or "polars",
        )
        run = TrainedRun(folder, description, folder / CHECKPOINTS, data)
        with quiet_import():
            from paddlerec_milvus.training.trainer import train
        try:
            outdates = folder / RUN_FILE
            train(run.settings(trained=False), resume=self.resume, outdates=outdates)
        except KeyboardInterrupt as stopped:  # which says how to go on, and not where
            raise type(stopped)(f"{stopped} (folder='{folder}')") from None
        except (DataError, SettingsError, ModelError):  # a refusal, unless an epoch is saved
            if is_new and not any(run.checkpoints.glob(f"*/{PREFIX}.pdparams")):
                shutil.rmtree(data, ignore_errors=True)
            raise
        if (record := read_record(run.checkpoint)) is not None:
            description = description.model_copy(update={"run": record.run})
            run = replace(run, description=description)
        run.write()
        return run

    def _folder(self, yaml: str) -> Path:
        if self.folder is None and self.resume:
            raise SettingsError("resume: say in which folder=… the run was that shall go on")
        return _new_folder(yaml) if self.folder is None else Path(self.folder)

    def _source(self) -> Source | None:
        """Where the log comes from; None: it is prepared."""
        columns = checked_columns(self.columns)
        options = LogOptions(columns=columns)
        if isinstance(self.clicks, str | Path):
            path = Path(self.clicks)
            if is_prepared(path):
                self._require_no_choice(path)
                return None
            if self.items is not None and not isinstance(self.items, str | Path):
                raise DataError(f"items: clicks is the file {path}; name a file of items, too")
            titles = None if self.items is None else Path(self.items)
            return Interactions(path, titles, self.string_ids, options)
        frame = log_frame(self.clicks, "clicks", columns)
        titles_part = None if self.items is None else titles_frame(self.items)
        return DataFrameLog(frame, titles_part, self.string_ids, options)

    def _require_no_choice(self, path: Path) -> None:
        """SettingsError: something is said of the log at ``path``, which is prepared."""
        said = {
            "items": self.items is not None,
            "columns": self.columns is not None,
            "string_ids": self.string_ids,
            "min_count": self.min_count != DEFAULT_MIN_COUNT,
            "split": self.split != SplitChoice(),
        }
        if names := [name for name, is_said in said.items() if is_said]:
            raise SettingsError(f"{path} is a prepared log: leave out {', '.join(names)}")


@contextmanager
def _made(folder: Path) -> Iterator[Path]:
    """``folder``, made where it is not there; what of that an exception leaves empty goes again.

    DataError: it cannot be written.
    """
    new = _make(folder)
    try:
        yield folder.resolve()
    except BaseException:
        with suppress(OSError):  # one is not empty
            for place in new:
                place.rmdir()
        raise


def _make(folder: Path) -> list[Path]:
    """What was made of ``folder`` and those above it, itself first."""
    whole = folder.absolute()
    try:
        recover(folder)
        new = [place for place in (whole, *whole.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"folder: {folder}: {error.strerror}; name another one") from None
    if not os.access(folder, os.W_OK):
        raise DataError(f"folder: {folder}: cannot be written; name another one")
    return new


def _checked(texts: list[str], seed: int | None) -> list[str]:
    """The options, with the seed; SettingsError: one of them is an argument of fit()."""
    said = {f"runner.{key}": "clicks and folder" for key in PATH_KEYS}
    said |= {} if seed is None else {"runner.seed": "seed"}
    for text in texts:
        key = text.partition("=")[0].strip()
        where = "index()" if key.startswith("milvus.") else said.get(key)
        if where is not None:
            raise SettingsError(f"options: {key} is said by {where}; leave it out here")
    return [*texts, *([] if seed is None else [f"runner.seed={seed}"])]


def _new_folder(yaml: str) -> Path:
    """``output/mind-1``, or the next that is free."""
    name = Path(yaml).parent.name or Path(yaml).stem
    return next(place for number in count(1) if not (place := RUNS / f"{name}-{number}").exists())
