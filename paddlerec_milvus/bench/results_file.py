# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The results of a run: one JSON object a line, appended when measured and never measured twice."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from filelock import FileLock, Timeout
from pydantic import Field, TypeAdapter, ValidationError

from paddlerec_milvus.bench.results import Result
from paddlerec_milvus.data.files import replacing
from paddlerec_milvus.errors import UserError

VERSION = 2  # of the fields of a result, in each line as "schema"
RESULT: TypeAdapter[Result] = TypeAdapter(Annotated[Result, Field(discriminator="kind")])
FILE, REPORT, LOCK = "rows.jsonl", "report.json", ".lock"


class ResultsError(UserError):
    """A results folder that cannot be used."""


def key_of(about: Mapping[str, Any]) -> str:
    """16 hex digits that stand for all that decides a row."""
    return sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def line_of(result: Result) -> str:
    """A result as one JSON object that names its version; NaN, which JSON lacks, is left out."""
    content = json.loads(result.model_dump_json(exclude_none=True))
    return json.dumps({"schema": VERSION, **_without_null(content)})


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(part) for key, part in value.items() if part is not None}
    return value


def read_rows(folder: Path) -> list[Result]:
    """The results in a folder, or in one where the report alone remains.

    ResultsError: none, another version, a damaged line.
    """
    file, report = folder / FILE, folder / REPORT
    if not file.exists() and report.exists():
        rows = enumerate(_rows_of_report(report), 1)
        return [_checked(row, f"{report}, row {number}") for number, row in rows]
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


def _rows_of_report(report: Path) -> list[Any]:
    try:
        rows = json.loads(_text(report))["rows"]
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{report}: is no report of a run: {error}") from error
    return list(rows)


def _row(file: Path, number: int, line: str) -> Result:
    place = f"{file}, line {number}"
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ResultsError(f"{place}: is not JSON: {line[:60]}") from error
    return _checked(row, place)


def _checked(row: Any, place: str) -> Result:
    version = row.get("schema") if isinstance(row, dict) else None
    if version != VERSION:
        raise ResultsError(
            f"{place}: schema {version!r}, this version writes and reads {VERSION}: "
            "give another --out, or move that folder away"
        )
    try:
        return RESULT.validate_python({key: row[key] for key in row if key != "schema"})
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        raise ResultsError(
            f"{place}: is no result of a run: {field}: {problem['msg']}; was it changed by hand?"
        ) from error


class ResultsFile:
    """The results in ``folder``, which this process alone may write while it is open.

    Use it as a context manager. ResultsError: another run has the folder, a full disk.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = FileLock(folder / LOCK)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise ResultsError(
                f"--out {folder}: another run is writing there; wait for it or give another folder"
            ) from error
        except OSError as error:
            raise ResultsError(f"--out {folder}: cannot be written: {error.strerror}") from error
        file = folder / FILE
        self.rows = read_rows(folder) if file.exists() or (folder / REPORT).exists() else []
        self._known = {row.key for row in self.rows}
        if self.rows and not file.exists():  # of a report alone, which the next one writes over
            with replacing(file) as fresh:
                lines = "".join(f"{line_of(row)}\n" for row in self.rows)
                fresh.write_text(lines, encoding="utf-8")
        self._drop_cut_line()

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(self, *problem: object) -> None:
        self._lock.release()

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def add(self, result: Result) -> None:
        """Append a result whole, or not at all."""
        line = (line_of(result) + "\n").encode()
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
        self.rows.append(result)
        self._known.add(result.key)

    def _drop_cut_line(self) -> None:
        file = self.folder / FILE
        if file.exists() and (text := file.read_bytes()) and not text.endswith(b"\n"):
            os.truncate(file, text.rfind(b"\n") + 1)
