# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A folder that appears whole or not at all.

It is filled beside its place, as ``.NAME.preparing``, and renamed at the end. A killed run leaves
at most that hidden folder, which the next run removes; a lock tells it from a run at work. What it
replaces is moved aside meanwhile, as ``.NAME.replaced``, and put back if it comes to that.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from paddlerec_milvus.errors import DataError


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A new folder to fill, which becomes ``out`` when the block ends without an exception.

    What was at ``out`` is replaced: whoever calls this has made sure that it may be.

    Raises:
        DataError: another run is filling it, or the place is not writable.
    """
    staging = _staging(out)
    lock = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = _claim(staging, out)
        _restore(out)
        try:
            yield staging
            _publish(staging, out)
        except BaseException:
            with suppress(OSError):
                _restore(out)
            shutil.rmtree(staging, ignore_errors=True)
            raise
    except OSError as error:
        place = error.filename or staging
        raise DataError(
            f"cannot write {place}: {error.strerror or error}; nothing was kept"
        ) from None
    finally:
        if lock is not None:
            os.close(lock)


def _claim(staging: Path, out: Path) -> int:
    """Make the folder anew and lock it; the lock goes with the process, however it ends."""
    if staging.exists():
        stale = os.open(staging, os.O_RDONLY)
        try:
            fcntl.flock(stale, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(staging)
        except BlockingIOError:
            raise DataError(
                f"{out}: another run is preparing it just now ({staging}); wait for it to end"
            ) from None
        finally:
            os.close(stale)
    staging.mkdir()
    lock = os.open(staging, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def _publish(staging: Path, out: Path) -> None:
    old = _replaced(out)
    if out.exists() and any(out.iterdir()):
        out.rename(old)
    staging.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _staging(out: Path) -> Path:
    return out.parent / f".{out.name}.preparing"


def _replaced(out: Path) -> Path:
    return out.parent / f".{out.name}.replaced"


def recover(out: Path) -> None:
    """Undo a replacement that was cut off between its two renames, or finish one cut off after.

    Whoever opens ``out`` calls this first. A replacement that is under way is left alone.

    Raises:
        DataError: what was at ``out`` cannot be put back.
    """
    if not _replaced(out).exists():
        return
    try:
        if not _is_claimed(_staging(out)):
            _restore(out)
    except OSError as error:
        raise DataError(
            f"{out}: what was there before is in {_replaced(out)} and cannot be put back "
            f"({error.strerror}); rename it"
        ) from None


def _restore(out: Path) -> None:
    """Put back what was moved aside, or remove it where ``out`` is filled; for who fills it."""
    old = _replaced(out)
    if not old.exists():
        return
    if out.is_dir() and any(out.iterdir()):
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.rename(out)


def _is_claimed(staging: Path) -> bool:
    """Whether a run that is alive fills ``staging``."""
    try:
        folder = os.open(staging, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(folder)
    return False
