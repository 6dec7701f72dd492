# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Which data a model learns from: a folder's name, its place and a fingerprint of its files.

Files that name things alone (``items.csv``, ``users.csv``) do not count: a title changes no model.
Nor does ``item_times.csv``, from which no vector model learns; a ranker holds what it took of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from paddlerec_milvus.data.files import sha256_of
from paddlerec_milvus.data.prepared import ITEM_TIMES, ITEMS, META, USERS, read_meta
from paddlerec_milvus.errors import DataError

SPLITS = ("train", "valid", "test")
NOT_LEARNED = (ITEMS, USERS, ITEM_TIMES)


class DataIdentity(BaseModel):
    """The data of a run. Two are the same data where their fingerprints are equal."""

    model_config = ConfigDict(frozen=True)

    name: str
    """The folder's own name."""
    folder: str
    """Where it was when it was read."""
    fingerprint: str
    """16 hex digits."""

    def __str__(self) -> str:
        """The folder's name, its fingerprint and its place."""
        return f"'{self.name}' (fingerprint {self.fingerprint}, {self.folder})"


def fingerprint_of(folder: Path) -> str:
    """16 hex digits of SHA-256 over the files of train/, valid/ and test/ and the side features.

    Of a prepared folder by the sums in its ``meta.json``; a file whose size is another than there
    is read, and so is a file of a split that is not recorded there. Without a ``meta.json`` all
    files of the splits are read, or those of the folder itself where it has no such parts.
    DataError: nothing is there, or ``meta.json`` is damaged.
    """
    recorded = read_meta(folder).get("files", {}) if (folder / META).is_file() else {}
    sums = {name: recorded[name] for name in recorded if name not in NOT_LEARNED}
    parts = [folder / name for name in SPLITS if (folder / name).is_dir()]
    names = sorted({*sums, *_visible_files(parts if sums else parts or [folder], folder)})
    if not names:
        raise DataError(f"{folder}: holds no data; name a folder that prepare.py wrote")
    lines = [f"{name} {_sum(folder / name, sums.get(name))}\n" for name in names]
    return sha256("".join(lines).encode()).hexdigest()[:16]


def identity_of(part: Path) -> DataIdentity | None:
    """The data of a split: the folder around train/, valid/ or test/, else ``part`` itself.

    None: there is no such folder. DataError: ``meta.json`` is damaged.
    """
    folder = folder_around(part) or part
    if not folder.exists():
        return None
    return DataIdentity(name=folder.name, folder=str(folder), fingerprint=fingerprint_of(folder))


def folder_around(part: Path) -> Path | None:
    """The whole folder of which ``part``, or the folder of that file, is a split; None: no such."""
    split = part.parent if part.is_file() else part
    above = split.parent
    beside = split.name in SPLITS and (above / "train").is_dir()
    return above if beside or (above / META).is_file() else None


def _visible_files(parts: Sequence[Path], folder: Path) -> list[str]:
    """The data files of these parts of ``folder``, by their names from there."""
    if folder.is_file():
        return [""]
    files = [file for part in parts if part.is_dir() for file in part.iterdir()]
    return sorted(
        file.relative_to(folder).as_posix()
        for file in files
        if file.is_file() and not file.name.startswith(".")
    )


def _sum(file: Path, record: dict[str, Any] | None) -> str:
    """By ``record``, unless the file is here and of another size."""
    if record and (not file.is_file() or file.stat().st_size == record["bytes"]):
        return str(record["sha256"])
    return sha256_of(file)
