# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A folder that appears whole or not at all.

It is filled beside its place, as ``.NAME.preparing``, and renamed at the end. A killed run leaves
at most that hidden folder, which the next run removes; a lock tells it from a run at work.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paddlerec_milvus.errors import DataError


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A new folder to fill, which becomes ``out`` when the block ends without an exception.

    What was at ``out`` is replaced: whoever calls this has made sure that it may be.

    Raises:
        DataError: another run is filling it, or the place is not writable.
    """
    staging = out.with_name(f".{out.name}.preparing")
    lock = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        recover(out)
        lock = _claim(staging, out)
        try:
            yield staging
            _publish(staging, out)
        except BaseException:
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


def _replaced(out: Path) -> Path:
    return out.with_name(f".{out.name}.replaced")


def recover(out: Path) -> None:
    """Undo a replacement that was killed between its two renames, or finish one killed after."""
    old = _replaced(out)
    if old.exists() and not out.exists():
        old.rename(out)
    elif old.exists():
        shutil.rmtree(old)
