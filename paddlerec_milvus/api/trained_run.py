# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A trained run on disk, as fitting and saving leave it, or as ``tools/trainer.py`` does.

A folder of ours holds ``recommender.json``, the checkpoints in ``checkpoints/``, and the prepared
log in ``data/``, or says where that is.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from paddlerec_milvus import __version__
from paddlerec_milvus.api.frames import Library
from paddlerec_milvus.checkpoint import PREFIX
from paddlerec_milvus.checkpoint_record import RECORD, CheckpointRecord, read_record
from paddlerec_milvus.command import settings_for
from paddlerec_milvus.config import OWN_SECTIONS
from paddlerec_milvus.data.files import replacing
from paddlerec_milvus.data.prepared import META
from paddlerec_milvus.data.staging import recover, staged
from paddlerec_milvus.errors import CheckpointError, DataError, SettingsError
from paddlerec_milvus.ranking.files import FOLDER as RANKING
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.trained_model import PARAMETERS, TrainedModel, checkpoint_of

RUN_FILE = "recommender.json"
FORMAT = 1
DATA, CHECKPOINTS = "data", "checkpoints"
_COPIED = (PARAMETERS, RECORD, "best.json")


class RunDescription(BaseModel):
    """The content of ``recommender.json``."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    version: str = __version__
    """Of the program that wrote it."""
    yaml: str
    """The model's settings: a path inside the zoo, or a whole one."""
    options: tuple[str, ...] = ()
    """KEY=VALUE over the yaml; none of the section milvus."""
    data: str = DATA
    """The prepared folder; from the folder of this file on where it is in it."""
    library: Library = "polars"
    """Whose data frames come back."""
    run: str = ""
    """The run that ended here, as its checkpoints name it; empty: not known."""


@dataclass(frozen=True)
class TrainedRun:
    """Where a run is: a model's yaml with options, its data, its checkpoints."""

    folder: Path
    description: RunDescription
    checkpoints: Path
    data: Path
    epoch: str = ""

    @property
    def checkpoint(self) -> Path:
        """The epoch that is used; CheckpointError: there is none."""
        return checkpoint_of(self.checkpoints, self.epoch, "epoch: ")

    def settings(self, *options: str, trained: bool = True) -> Settings:
        """The settings of this run with further ``options``.

        Hyper-parameters are those that the checkpoint was ``trained`` with, as far as it says.
        SettingsError: an option of a section that decides what is trained.
        """
        for key in (text.partition("=")[0].strip() for text in options):
            if key.partition(".")[0] not in OWN_SECTIONS:
                raise SettingsError(
                    f"options: {key} cannot change after training; the sections "
                    f"{', '.join(OWN_SECTIONS)} can"
                )
        keys = ("model_save_path", "infer_load_path")
        places = [f"runner.{key}={self.checkpoints}" for key in keys]
        own = self.description
        settings = settings_for(own.yaml, [*places, *own.options, *options], self.data)
        record = read_record(self.checkpoint) if trained else None
        if record is None:
            return settings
        if own.run and record.run != own.run:
            raise CheckpointError(_began_anew(self.folder))
        return settings.model_copy(update={"hyper_parameters": record.hyper_parameters})

    def trained(self, settings: Settings) -> TrainedModel:
        """The model that is used; CheckpointError: it does not fit its data, or was changed."""
        model = TrainedModel(settings, self.checkpoint)
        model.require_fit()
        return model

    def write(self) -> None:
        """Write ``recommender.json``, whole or not at all."""
        with replacing(self.folder / RUN_FILE) as fresh:
            fresh.write_text(self.description.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def copy_to(self, out: Path) -> None:
        """Copy what is used of this run to the folder ``out``, which appears whole or not at all.

        An earlier copy there is replaced; a run's own folder holds all of it already.

        Raises:
            DataError: ``out`` holds anything else, another run of ``fit``, say, or cannot be
                written; it is this run's folder, and another epoch than ``load`` takes is used.
        """
        out = out.absolute()
        if out.resolve() == self.folder.resolve() and (out / RUN_FILE).is_file():
            if self.checkpoint != replace(self, epoch="").checkpoint:
                raise DataError(
                    f"{out}: is the folder of this run, of which load() takes another epoch; name "
                    "another folder, which will hold this one alone"
                )
            return
        recover(out)
        _require_ours(out)
        checkpoint = self.checkpoint
        copied = replace(self, folder=out, description=self.description.model_copy(update=_INSIDE))
        with staged(out) as staging:
            shutil.copytree(self.data, staging / DATA)
            place = staging / CHECKPOINTS / checkpoint.name
            place.mkdir(parents=True)
            if (ranking := checkpoint / RANKING).is_dir():
                shutil.copytree(ranking, place / RANKING)
            for name in _COPIED:
                if (checkpoint / name).is_file():
                    shutil.copyfile(checkpoint / name, place / name)
            replace(copied, folder=staging).write()


_INSIDE = {"data": DATA, "version": __version__}


def _require_ours(out: Path) -> None:
    """DataError: ``out`` holds what no save wrote."""
    if out.is_file():
        raise DataError(f"{out}: is a file; name a folder")
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    foreign = sorted(names - {RUN_FILE, DATA, CHECKPOINTS})
    if names and (foreign or RUN_FILE not in names):
        raise DataError(
            f"{out}: holds {(foreign or sorted(names))[0]}, which save() did not write; it is left "
            "alone: name another folder"
        )
    if any((out / CHECKPOINTS).glob(f"**/{PREFIX}.pdstate")):
        raise DataError(
            f"{out}: is a run of fit(), with all its epochs and what it needs to go on; it is left "
            "alone: name another folder"
        )


def _began_anew(folder: Path) -> str:
    return _unended(folder, "another training began here and did not end")


def _unended(folder: Path, what: str) -> str:
    return (
        f"{folder}: {what}; Recommender.fit(…, folder='{folder}', resume=True) with its arguments "
        f"goes on. Epochs of before, if there were, are in {folder / CHECKPOINTS}/earlier-1, or "
        "the last of that name"
    )


def find_run(folder: Path, model: str | None, data: Path | None, epoch: str) -> TrainedRun:
    """The run in ``folder``.

    Raises:
        CheckpointError: nothing trained is there, or by another version of the program.
        DataError: its data is not there.
    """
    recover(folder)
    if (folder / RUN_FILE).is_file():
        own = _read_description(folder / RUN_FILE)
        if model is not None:
            own = own.model_copy(update={"yaml": yaml_of(model)})
        place = data or folder / own.data
        run = TrainedRun(folder, own, folder / CHECKPOINTS, place.resolve(), epoch)
    else:
        run = _run_of_trainer(folder, model, data, epoch)
    if run.description.run and not any(run.checkpoints.glob(f"*/{PREFIX}.pdparams")):
        raise CheckpointError(_began_anew(folder))
    recover(run.data)
    if not run.data.is_dir():
        raise DataError(f"{run.data}: the data of {folder} is not there; name it with data=…")
    return run


def _read_description(file: Path) -> RunDescription:
    try:
        text = file.read_bytes()
        written = _Version.model_validate_json(text)
        if written.format != FORMAT:
            age, remedy = (
                ("an older", "load it with that version, or train again by Recommender.fit()")
                if written.format < FORMAT
                else ("a newer", "bring the package up to date")
            )
            raise CheckpointError(
                f"{file}: was written by {age} version ({written.version}; format {written.format},"
                f" expected {FORMAT}): {remedy}. Its prepared log can be trained on as it is: "
                f"Recommender.fit('{file.parent / DATA}')"
            )
        return RunDescription.model_validate_json(text)
    except (OSError, ValidationError) as error:
        reason = str(error).replace("\n", " ")
        raise CheckpointError(f"{file}: cannot be read: {reason:.200}") from None


class _Version(BaseModel):
    """What every version of ``recommender.json`` says."""

    format: int
    version: str = "unknown"


def _run_of_trainer(folder: Path, model: str | None, data: Path | None, epoch: str) -> TrainedRun:
    """A folder of checkpoints that ``tools/trainer.py`` wrote (``runner.model_save_path``)."""
    if not any(folder.glob(f"*/{PREFIX}.pdparams")):
        if any((folder / CHECKPOINTS).glob(f"*/{PREFIX}.pdparams")):
            raise CheckpointError(_unended(folder, "training did not end there"))
        raise CheckpointError(
            f"{folder}: holds no {RUN_FILE} and no checkpoint; expected a folder of "
            "Recommender.fit() or save(), or one of checkpoints that tools/trainer.py wrote "
            "(runner.model_save_path)"
        )
    record = read_record(checkpoint_of(folder, epoch, "epoch: "))
    if record is None and (model is None or data is None):
        raise CheckpointError(
            f"{folder}: does not say which model and data it is of (no {RECORD}); name them: "
            "load(…, model='mind', data='datasets/mine')"
        )
    name = model or _model_beside(folder, record)
    place = data or Path(record.data.folder if record is not None else "")
    description = RunDescription(yaml=yaml_of(name), data=str(place.resolve()))
    return TrainedRun(folder, description, folder, place.resolve(), epoch)


def _model_beside(folder: Path, record: CheckpointRecord | None) -> str:
    """The model folder around the checkpoints, if they are in theirs; else its name in the zoo."""
    name = record.model if record is not None else ""
    beside = folder.parent
    is_model = beside.name == name and (beside / "dygraph_model.py").is_file()
    return str(beside) if is_model else name


def yaml_of(model: str) -> str:
    """The yaml for ``model``: the name of one in the zoo, a model folder, or a yaml."""
    text = model if model.endswith((".yaml", ".yml")) else f"{model}/config.yaml"
    return str(Path(text).resolve()) if Path(text).is_file() else text


def is_prepared(folder: Path) -> bool:
    """Whether ``folder`` is a prepared one: ours, or PaddleRec's."""
    recover(folder)
    return (folder / META).is_file() or all((folder / part).is_dir() for part in ("train", "valid"))
