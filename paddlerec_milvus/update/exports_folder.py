# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A folder of exports: ``current`` points at the one that serves, and the oldest ones go."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from paddlerec_milvus.errors import DataError
from paddlerec_milvus.export.exported_model import ExportedModel, exports_in, read_export

CURRENT = "current"
RUNS = "runs"  # what updates wrote beside: a folder for each, named like its export
LOCK = ".update.lock"


class ExportsFolder:
    """``folder`` with an export in ``NAME`` for each model, and the link ``current`` to one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Held while a run is at work; DataError: another one is, or it cannot be written."""
        lock = FileLock(self.folder / LOCK)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise DataError(
                f"{self.folder}: another update is at work here: wait for it to end"
            ) from None
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be written: {error.strerror}") from None
        try:
            yield
        finally:
            lock.release()

    @property
    def current(self) -> str:
        """The name of the export that ``current`` points at; empty: there is none.

        DataError: something else than a link lies there.
        """
        link = self.folder / CURRENT
        if link.exists() and not link.is_symlink():
            raise DataError(f"{link}: is no link: move it to another name, and link to that")
        return link.resolve().name if link.exists() else ""

    def export(self, name: str) -> ExportedModel:
        """The export ``name``; CheckpointError: there is none."""
        return read_export(self.folder / name)

    def point(self, name: str) -> None:
        """Let ``current`` point at ``name`` in one step; at nothing where that is empty."""
        link, fresh = self.folder / CURRENT, self.folder / f".{CURRENT}.new"
        try:
            fresh.unlink(missing_ok=True)
            if name:
                fresh.symlink_to(name)
                fresh.replace(link)
            else:
                link.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"{link}: cannot be written: {error.strerror}") from None

    def remove(self, name: str) -> None:
        """Remove the export ``name``, if it is there."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def prune(self, keep: int, needed: set[str]) -> list[str]:
        """Remove all exports that an update wrote but the newest ``keep``; returns their names.

        ``needed`` stay; so do those that were put there by hand.
        """
        own = {place.name for place in (self.folder / RUNS).glob("*/")}
        names = [name for name in exports_in(self.folder) if name in own]
        surplus = [name for name in names[:-keep] if name not in needed]
        for name in surplus:
            self.remove(name)
        there = exports_in(self.folder).keys()
        for run in own - there - needed:
            shutil.rmtree(self.folder / RUNS / run, ignore_errors=True)
        return surplus

    def size(self) -> int:
        """Bytes of all that is there."""
        sizes = []
        for file in self.folder.rglob("*"):
            with suppress(OSError):
                sizes.append(file.lstat().st_size)
        return sum(sizes)
