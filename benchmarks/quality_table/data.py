# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The click logs that are measured."""

from __future__ import annotations

import re
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from paddlerec_milvus.data.cli import main as prepare
from paddlerec_milvus.data.files import data_files
from paddlerec_milvus.data.held_out import HeldOutUsers, read_held_out
from paddlerec_milvus.data.log import ClickLog, read_click_log
from paddlerec_milvus.data.prepared import META, open_prepared
from paddlerec_milvus.errors import DataError, SettingsError

RAW = "interactions.csv"


@dataclass(frozen=True)
class DataSet:
    """A prepared folder; two with the same ``fingerprint`` hold the same clicks and split."""

    name: str
    folder: Path
    item_count: int
    fingerprint: str
    split: str
    """How the log was split, in words."""

    def log(self) -> ClickLog:
        """The clicks of the train users."""
        return read_click_log(open_prepared(self.folder).train_dir)

    def users(self, split: str) -> HeldOutUsers:
        """The users of ``valid`` or ``test``, a part of their clicks held out."""
        prepared = open_prepared(self.folder)
        return read_held_out({"valid": prepared.valid_dir, "test": prepared.test_dir}[split])

    def lists_measured(self) -> list[tuple[HeldOutUsers, bool]]:
        """The users of valid, of test, and of test again; of the last the lists hold nothing of
        their histories.
        """
        test = self.users("test")
        return [(self.users("valid"), False), (test, False), (test, True)]


def open_data(pair: str, work: Path) -> DataSet:
    """``NAME=DIR``: a prepared folder, or one with a raw log, which is prepared in ``work``."""
    name, _, place = pair.partition("=")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or not place:
        raise SettingsError(f"--data {pair}: expected NAME=DIR, e.g. sports=datasets/sports")
    folder = Path(place).resolve()
    if not (folder / META).exists() and (folder / RAW).exists():
        folder = _prepared(folder, work / "data" / name)
    prepared = open_prepared(folder)
    if prepared.test_dir == prepared.valid_dir:
        raise DataError(
            f"{folder}: has no test/, and users that settings were chosen on measure nothing"
        )
    fingerprint = _fingerprint(folder)
    return DataSet(name, folder, prepared.item_count, fingerprint, prepared.split_words)


def _prepared(raw: Path, out: Path) -> Path:
    arguments = ["--interactions", str(raw / RAW), "--out", str(out)]
    with redirect_stdout(sys.stderr):
        if prepare(arguments):
            raise DataError(f"{raw / RAW}: could not be prepared, see above")
    return out


def _fingerprint(folder: Path) -> str:
    """SHA-256 of the content of train/, valid/ and test/."""
    digest = sha256()
    for part in ("train", "valid", "test"):
        for file in data_files(folder / part):
            digest.update(f"{part}/{file.stat().st_size}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
