# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a checkpoint came from: ``rec.json`` beside ``rec.pdparams`` in every epoch's folder.

PaddleRec's own checkpoints have none. They load, and cannot be held against any data.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from paddlerec_milvus.data.files import sha256_of
from paddlerec_milvus.data.fingerprint import DataIdentity, folder_around, identity_of
from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.settings import Settings

logger = logging.getLogger(__name__)

RECORD = "rec.json"
FOR_TRAINING = {
    "item_count",
    "next_n",
    "min_history",
    "neg_samples",
    "sampler",
    "sampler_power",
    "batch_negatives",
    "hard_negatives",
    "temperature",
    "attention",
    "pow_p",
    "dropout",
    "transitions.dropout",
    "routing_penalty",
    "loss",
    "gbce_t",
    "emb_init_std",
    "item_start",
    "capsual.init_std",
    "capsual.map_init",
    "map_init",
    "train_items",
}
"""Hyper-parameters that a trained tower does not need, beside those of the optimizer."""
Content = TypeVar("Content", bound=BaseModel)


class CheckpointRecord(BaseModel):
    """The content of ``rec.json``."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    run: str
    """16 hex digits, the same for all epochs of a run: of data, settings, versions and code."""
    model: str
    """The model folder's name."""
    epoch: int
    data: DataIdentity
    seed: int
    settings: dict[str, Any]
    """All that decides what is trained, by dotted keys."""
    versions: dict[str, str]
    """Of packages and Python; ``code``: of the model folder's own sources."""
    saved: str
    """When, in UTC."""
    files: dict[str, str] = {}
    """SHA-256 of the files beside it."""

    @property
    def hyper_parameters(self) -> dict[str, Any]:
        """Those that it was trained with, by dotted keys."""
        section = "hyper_parameters."
        return {
            key.removeprefix(section): value
            for key, value in self.settings.items()
            if key.startswith(section)
        }

    def differences(self, other: CheckpointRecord) -> list[str]:
        """What is another in ``other``, in words: data, settings, versions."""
        words = []
        if self.data.fingerprint != other.data.fingerprint:
            words.append(f"data: {self.data} there, {other.data} here")
        before, now = {**self.settings, **self.versions}, {**other.settings, **other.versions}
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                words.append(f"{key}: {before.get(key)} there, {now.get(key)} here")
        return words


def read_record(folder: Path) -> CheckpointRecord | None:
    """What ``folder/rec.json`` says; None: there is none. CheckpointError: it is damaged."""
    remedy = "restore it, or remove it to take the parameters as those of another program"
    return read_validated(folder / RECORD, CheckpointRecord, remedy)


def read_validated(file: Path, model: type[Content], remedy: str) -> Content | None:
    """What the JSON of ``file`` says as a ``model``; None: there is no such file.

    CheckpointError, which names the ``remedy``: it is damaged, or something else.
    """
    try:
        return model.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        reason = str(error).replace("\n", " ")
        raise CheckpointError(f"{file}: cannot be read: {reason:.200}; {remedy}") from None


def write_record(folder: Path, record: CheckpointRecord) -> None:
    """Write ``record`` with the sums of all files that lie in ``folder``."""
    files = {file.name: sha256_of(file) for file in sorted(folder.iterdir())}
    text = record.model_copy(update={"files": files}).model_dump_json(indent=2)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


def require_unchanged(file: Path) -> None:
    """CheckpointError where ``file`` is not what was saved there, as far as a record says."""
    record = read_record(file.parent)
    expected = record.files.get(file.name) if record is not None else None
    if expected is not None and sha256_of(file) != expected:
        raise CheckpointError(
            f"{file}: is not the file that training saved (its sha256 is not the one in {RECORD} "
            f"beside it): restore it, or, if it was replaced on purpose, remove {RECORD}"
        )


def data_of(settings: Settings, *, held_out: bool) -> DataIdentity | None:
    """The data that a checkpoint is used with: of the test users (``held_out``), or the train log.

    Test users that are no part of a whole folder are held against nothing: the train log counts.
    None: that is not here.
    """
    runner = settings.runner
    if held_out and runner.test_data_dir is not None:
        test = settings.path("test_data_dir")
        if folder_around(test) is not None:
            return identity_of(test)
    return None if runner.train_data_dir is None else identity_of(settings.path("train_data_dir"))


def require_fit(folder: Path, data: DataIdentity | None) -> CheckpointRecord | None:
    """The record of the checkpoint in ``folder``; None, and a log line: it has none.

    CheckpointError: it was trained on other data than ``data``, or it was left by an earlier run
    than the newest checkpoint beside it.
    """
    record = read_record(folder)
    if record is None:
        logger.info("%s: does not say what it was trained on (no %s)", folder, RECORD)
        return None
    if data is None:
        logger.info("%s: its data %s is not here: not compared", folder, record.data)
    elif data.fingerprint != record.data.fingerprint:
        raise CheckpointError(
            f"{folder}: was trained on the data {record.data}, but the data here is {data}: name "
            "the data that it was trained on (--data), a checkpoint of this data "
            "(runner.infer_load_path), or train one"
        )
    others = [read_record(file.parent) for file in folder.parent.glob(f"*/{RECORD}")]
    newest = max((other for other in others if other is not None), key=lambda one: one.saved)
    if newest.run != record.run:
        raise CheckpointError(
            f"{folder}: was left by an earlier run than epoch {newest.epoch} beside it "
            f"({'; '.join(record.differences(newest))}); {holds(folder.parent)}"
        )
    return record


def require_same_tower(folder: Path, record: CheckpointRecord | None, settings: Settings) -> None:
    """CheckpointError: a hyper-parameter of ``settings`` makes another tower of the parameters in
    ``folder`` than that which was trained, as far as their ``record`` says.
    """
    trained = {} if record is None else record.hyper_parameters
    changed = [
        (f"hyper_parameters.{key}", trained[key], value)
        for key, value in settings.hyper_parameters.items()
        if trained.get(key, value) != value
        and key not in FOR_TRAINING
        and not key.startswith("optimizer.")
    ]
    if changed:
        words = ", ".join(f"{name} {was} and not {value}" for name, was, value in changed)
        options = " ".join(f"{name}={was}" for name, was, _ in changed)
        raise CheckpointError(
            f"{folder}: was trained with {words}: its lists would be those of another model. "
            f"Give it what it was trained with: -o {options}"
        )


def holds(folder: Path) -> str:
    """The checkpoints in ``folder`` in words, and how to take one of them."""
    names = [file.parent.name for file in folder.glob("*/rec.pdparams")]
    epochs = sorted((name for name in names if name.isdecimal()), key=int)
    if not names:
        beside = {file.parent.parent.name for file in folder.parent.glob("*/*/rec.pdparams")}
        words = f"{folder} holds no checkpoint: train first"
        words += f", or set runner.infer_load_path: beside it {', '.join(sorted(beside))}"
        return words if beside else words.partition(",")[0]
    words = f"{folder} holds: {', '.join([*epochs, *sorted(set(names) - set(epochs))])}"
    if epochs:
        words += f"; -o runner.infer_start_epoch={epochs[-1]} "
        words += f"runner.infer_end_epoch={int(epochs[-1]) + 1} evaluates the last epoch"
    return words + ("; --best the one that did best on valid" if "best" in names else "")
