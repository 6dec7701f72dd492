# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The results of a run: one JSON object a line, appended when measured and never measured twice."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from paddlerec_milvus.errors import UserError

SCHEMA = 1
FILE, REPORT = "rows.jsonl", "report.json"


class ResultsError(UserError):
    """A results folder that cannot be used."""


def key_of(about: Mapping[str, Any]) -> str:
    """16 hex digits that stand for all that decides a row."""
    return sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a results folder, or of one where the report alone was kept.

    ResultsError: none, another schema, a damaged line.
    """
    file, report = folder / FILE, folder / REPORT
    if not file.exists() and report.exists():
        return [_checked(row, f"{report}, row {n}") for n, row in enumerate(_kept(report), 1)]
    # a line without its end was being written when the run was killed
    text = _text(file)
    lines = text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]
    return [_row(file, number, line) for number, line in enumerate(lines, 1)]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ResultsError(
            f"{file}: cannot be read: {error.strerror}; is that folder a run's --out?"
        ) from error
    except UnicodeDecodeError as error:
        raise ResultsError(f"{file}: is no text: {error.reason} at byte {error.start}") from error


def _kept(report: Path) -> list[Any]:
    try:
        rows = json.loads(_text(report))["rows"]
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{report}: is no report of a run: {error}") from error
    return list(rows)


def _row(file: Path, number: int, line: str) -> dict[str, Any]:
    place = f"{file}, line {number}"
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ResultsError(f"{place}: is not JSON: {line[:60]}") from error
    return _checked(row, place)


def _checked(row: Any, place: str) -> dict[str, Any]:
    found = row.get("schema") if isinstance(row, dict) else None
    if found != SCHEMA:
        raise ResultsError(
            f"{place}: schema {found!r}, this version writes and reads {SCHEMA}: "
            "give another --out, or move that folder away"
        )
    return dict(row)


class Rows:
    """The rows of ``folder``, which this process alone may write while it is open.

    Use it as a context manager. ResultsError: another run has the folder, a full disk.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / ".lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise ResultsError(
                f"--out {folder}: another run is writing there; wait for it or give another folder"
            ) from error
        except OSError as error:
            raise ResultsError(f"--out {folder}: cannot be written: {error.strerror}") from error
        self.rows = read_rows(folder) if (folder / FILE).exists() else []
        self._known = {row["key"] for row in self.rows}
        self._drop_cut_line()

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *problem: object) -> None:
        self._lock.close()

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row with its ``key`` whole, or not at all."""
        whole = {"schema": SCHEMA, **row}
        line = (json.dumps(_plain(whole), allow_nan=False) + "\n").encode()
        file = self.folder / FILE
        try:
            with file.open("ab", buffering=0) as out:
                start = out.tell()
                try:
                    if out.write(line) != len(line):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                except OSError:
                    with suppress(OSError):
                        out.truncate(start)
                    raise
        except OSError as error:
            raise ResultsError(
                f"{file}: cannot be written: {error.strerror}; the {len(self.rows)} rows so far "
                "stand, and the same command goes on from there"
            ) from error
        self.rows.append(json.loads(line))
        self._known.add(str(whole["key"]))

    def _drop_cut_line(self) -> None:
        file = self.folder / FILE
        if file.exists() and (text := file.read_bytes()) and not text.endswith(b"\n"):
            os.truncate(file, text.rfind(b"\n") + 1)


def _plain(value: Any) -> Any:
    """JSON knows no NaN: None."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
