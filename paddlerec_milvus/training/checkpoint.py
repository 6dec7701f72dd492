# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Checkpoints: PaddleRec's ``<epoch>/rec.pdparams`` and ``rec.pdopt``, whole or not there at all.

``rec.json`` says what they came from. ``rec.pdstate`` (JSON) holds what a bit-equal resume needs
beside them: the position in the run, the state of every random generator and which epoch did best
on the valid users. ``best`` is a copy of that epoch's parameters with its measures.
"""

from __future__ import annotations

import filecmp
import json
import os
import random
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from pydantic import TypeAdapter, ValidationError

from paddlerec_milvus.checkpoint import (
    BEST,
    BEST_FILE,
    PREFIX,
    REPLACED,
    load_tensors,
    replaced,
)
from paddlerec_milvus.checkpoint_record import (
    RECORD,
    CheckpointRecord,
    require_unchanged,
    write_record,
)
from paddlerec_milvus.errors import CheckpointError

INTERRUPTED = "interrupted"
PICKLED = b"\x80"  # how a pickle of the protocols 2 to 5 begins


def random_state() -> dict[str, Any]:
    """State of Python's, numpy's and paddle's global generators, as plain data."""
    numpy_state: Any = np.random.get_state(legacy=False)  # noqa: NPY002 - folders draw from it
    keys = {**numpy_state["state"], "key": numpy_state["state"]["key"].tolist()}
    return {
        "python": random.getstate(),
        "numpy": {**numpy_state, "state": keys},
        "paddle": [state.__getstate__() for state in paddle.get_rng_state()],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put back what ``random_state`` gave, also as it comes out of JSON. CheckpointError: it is
    none.
    """
    try:
        version, words, gauss = state["python"]
        random.setstate((version, tuple(words), gauss))
        np.random.set_state(state["numpy"])  # noqa: NPY002
        paddle.set_rng_state([_generator_state(values) for values in state["paddle"]])
    except (TypeError, ValueError, LookupError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"the state of the random generators is none: {error}") from error


def _generator_state(values: Any) -> Any:
    """Paddle's state of one device's generator, which can be made in no other way."""
    kind: Any = type(paddle.get_rng_state()[0])
    state = kind.__new__(kind)
    state.__setstate__(tuple(values))
    return state


@dataclass(frozen=True)
class Best:
    """The epoch that did best on the valid users, and what it reached there."""

    epoch: int
    metrics: dict[str, float]  # by their names in reports, e.g. "recall@50"
    top_n: int
    measured: dict[str, Any]  # the settings that decide what the metrics mean


@dataclass(frozen=True)
class Position:
    """Where a run stands, and its random state there."""

    epoch: int
    batch: int  # batches of this epoch that are done; 0 with `done` set: the epoch is complete
    step: int  # batches since the run began
    done: bool
    random: dict[str, Any]  # now
    epoch_random: dict[str, Any]  # when this epoch's reader was started
    settings: dict[str, Any]  # that a resume inside an epoch must share
    best: Best | None = None  # so far


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to write, which takes the place of ``folder`` or leaves what was there before.

    Killed between the two moves, it leaves both, hidden and whole: see :func:`recover`.
    """
    fresh, old = _unfinished(folder), replaced(folder)
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        yield fresh
        for written in (*fresh.iterdir(), fresh):
            _sync(written)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        fresh.rename(folder)
        _sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise CheckpointError(
            f"{folder}: the checkpoint could not be written: {error.strerror or error}; earlier "
            "ones are untouched: free some space, then go on with --resume"
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        with suppress(OSError):
            recover(folder.parent)


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.new")


def _remove(folder: Path) -> None:
    """Remove ``folder`` and what a save of it moved aside; killed meanwhile, it leaves nothing that
    could be taken for it.
    """
    for place in (replaced(folder), folder):
        with suppress(FileNotFoundError):
            shutil.rmtree(_unfinished(folder), ignore_errors=True)
            place.rename(_unfinished(folder))
            shutil.rmtree(_unfinished(folder), ignore_errors=True)


def _sync(path: Path) -> None:
    """Have the disk hold a file, or the names in a folder."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def recover(save_path: Path) -> None:
    """Put back what a save has moved aside that was killed before its own folder was in place.

    Only for the process that saves there.
    """
    for old in save_path.glob(f".*{REPLACED}"):
        folder = old.with_name(old.name[1 : -len(REPLACED)])
        if folder.exists():  # the save was killed after both moves
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(folder)


def save_checkpoint(
    folder: Path,
    state: Mapping[str, Any],
    optimizer: Mapping[str, Any],
    position: Position,
    record: CheckpointRecord | None = None,
) -> None:
    """Write ``folder`` in one move; a failure leaves what was there before. CheckpointError.

    ``record`` says what it came from.
    """
    with _whole(folder) as fresh:
        paddle.save(dict(state), str(fresh / f"{PREFIX}.pdparams"))
        paddle.save(dict(optimizer), str(fresh / f"{PREFIX}.pdopt"))
        (fresh / f"{PREFIX}.pdstate").write_text(json.dumps(asdict(position)), encoding="utf-8")
        if record is not None:
            write_record(fresh, record)


def keep_best(save_path: Path, best: Best | None) -> None:
    """Make ``save_path/best`` what ``best`` says: a copy of that epoch, or nothing.

    It is written anew where it differs, so one that an interrupted or another run left is mended.
    An epoch that is no longer there leaves it as it is. CheckpointError when the disk is full.
    """
    folder = save_path / BEST
    if best is None:
        _remove(folder)
        return
    source = save_path / str(best.epoch)
    names = [name for name in (f"{PREFIX}.pdparams", RECORD) if (source / name).is_file()]
    words = json.dumps({"epoch": best.epoch, "top_n": best.top_n, **best.metrics}, indent=2) + "\n"
    is_so = (
        (folder / BEST_FILE).is_file()
        and (folder / BEST_FILE).read_text(encoding="utf-8") == words
        and all(_same(source / name, folder / name) for name in names)
    )
    if is_so or f"{PREFIX}.pdparams" not in names:
        return
    with _whole(folder) as fresh:
        for name in names:
            shutil.copyfile(source / name, fresh / name)
        (fresh / BEST_FILE).write_text(words, encoding="utf-8")


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def load_training_state(folder: Path, optimizer: Any) -> Position:
    """Load ``rec.pdopt`` into ``optimizer`` and give the position.

    CheckpointError: one is absent, damaged or not as it was saved.
    """
    state_file = folder / f"{PREFIX}.pdstate"
    if not state_file.is_file():
        raise CheckpointError(
            f"{state_file}: is missing, so training cannot go on from {folder}; to start from its "
            "parameters alone set runner.model_init_path"
        )
    require_unchanged(state_file)
    content = state_file.read_bytes()
    if content.startswith(PICKLED):
        raise CheckpointError(
            f"{state_file}: was saved by a version that wrote pickles, which may run code when "
            f"read, so training cannot go on from {folder}; to start from its parameters alone set "
            "runner.model_init_path, or end that run with the version that began it"
        )
    try:
        position = TypeAdapter(Position).validate_json(content)
    except ValidationError as error:
        reason = str(error).replace("\n", " ")
        raise CheckpointError(f"{folder}: cannot be resumed from: {reason:.200}") from None
    state = load_tensors(folder / f"{PREFIX}.pdopt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # paddle warns of accumulators that are made on demand
        try:
            optimizer.set_state_dict(state)
        except Exception as error:  # another type of numbers, say
            raise CheckpointError(f"{folder}: cannot be resumed from: {error}") from error
    return position


def supersede(save_path: Path, epoch: int, *, done: bool) -> None:
    """After a save in ``epoch``: what lies further on is of an earlier run, so no resume takes it.

    Its parameters stay, for evaluation.
    """
    if done:
        _remove(save_path / INTERRUPTED)
    for state in save_path.glob("*/rec.pdstate"):
        name = state.parent.name
        if name.isdigit() and int(name) >= epoch + int(done):
            state.unlink()


def newest(save_path: Path) -> Path | None:
    """The checkpoint that is furthest in the run: the interrupted one, or the last epoch's."""
    epochs = [
        path.parent
        for path in save_path.glob("*/rec.pdstate")
        if path.parent.name.isdigit() or path.parent.name == INTERRUPTED
    ]
    # an epoch's end removes the interrupted checkpoint, so where there is one it is the furthest
    return max(
        epochs,
        key=lambda path: float("inf") if path.name == INTERRUPTED else int(path.name),
        default=None,
    )
