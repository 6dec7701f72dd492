# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Lists as parquet parts of fixed users, each whole or not there, and a manifest of them.

A folder holds ``part-1of1-00000.parquet`` …, ``_parameters.json`` (of all shares), and for a share
``_parts-1of1.jsonl``, a line after each part, which at the end becomes ``_manifest-1of1.json``.
``_SUCCESS`` is there once all shares have one. Readers of parquet folders pass over names with
``_``.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any

import polars as pl
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from paddlerec_milvus.batch.shares import Share
from paddlerec_milvus.command import warn
from paddlerec_milvus.data.files import replacing, sha256_of
from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.errors import DataError, SettingsError
from paddlerec_milvus.evaluation.report import versions

PARAMETERS, SUCCESS = "_parameters.json", "_SUCCESS"
CLAIM_SECONDS = 60.0

Parameters = Mapping[str, Any]


class PartRecord(BaseModel):
    """A part that is written."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    part: int
    file: str
    sha256: str
    users: int
    first: OwnId
    last: OwnId
    sources: dict[str, int]
    """Rows by their source."""


class ShareManifest(BaseModel):
    """A share that is whole."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    format: int = 1
    share: str
    parameters: dict[str, Any]
    """What the lists depend on: model, data, options."""
    users: int
    unknown_clicks: int
    """On items that the model does not know: left out of histories."""
    sources: dict[str, int]
    versions: dict[str, str]
    """Of the packages that ended it."""
    parts: list[PartRecord]

    def words(self) -> str:
        """How many users there are, and what their lists are made of."""
        sources = ", ".join(f"{count:,} {source}" for source, count in self.sources.items())
        unknown = f"; {self.unknown_clicks:,} clicks on unknown items were left out"
        share = self.share.replace("of", "/")
        words = f"share {share}, {self.users:,} users ({sources}), {len(self.parts):,} parts"
        return words + (unknown if self.unknown_clicks else "")


def require_same(there: Parameters, ours: Parameters, place: str) -> None:
    """SettingsError names what differs between a job's parameters and those of this run."""
    differing = [
        f"{name} {there.get(name)!r} there, {ours.get(name)!r} here"
        for name in dict.fromkeys([*there, *ours])
        if there.get(name) != ours.get(name)
    ]
    if differing:
        raise SettingsError(
            f"{place} holds lists of other parameters: {'; '.join(differing)}. Give another place, "
            "or go on with the same"
        )


class PartFolder:
    """The parts of one share in ``folder``, for one process at a time. A context manager.

    SettingsError: other parameters are at work there. DataError: it holds something else, another
    process fills the same share, or a file cannot be read or written.
    """

    def __init__(self, folder: Path, parameters: Parameters, share: Share) -> None:
        self._folder, self._parameters, self._share = folder, dict(parameters), share
        self._progress = folder / f"_parts-{share}.jsonl"
        self._manifest = folder / f"_manifest-{share}.json"
        self._lock = FileLock(folder / f".lock-{share}")
        self._records: dict[int, PartRecord] = {}

    def __enter__(self) -> PartFolder:
        self._claim()
        try:
            with FileLock(self._folder / ".lock", timeout=CLAIM_SECONDS):  # of all shares
                self._require_own()
            self._records = {one.part: one for one in self._read() if self._is_whole(one)}
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    def __str__(self) -> str:
        """Where the lists are."""
        return str(self._folder)

    def _claim(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise DataError(
                f"{self._folder}: another process makes the share {self._share} just now; wait for "
                "it, or take another share"
            ) from None
        except OSError as error:
            raise DataError(f"{self._folder}: cannot be written: {error.strerror}") from None

    def _require_own(self) -> None:
        file = self._folder / PARAMETERS
        if not file.exists():
            if any(not one.name.startswith(".") for one in self._folder.iterdir()):
                raise DataError(
                    f"{self._folder}: is not empty and holds no lists: name another folder"
                )
            _write_json(file, self._parameters)
        try:
            there = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(f"{file}: cannot be read: {error}; name another folder") from None
        require_same(there, self._parameters, str(self._folder))

    def _read(self) -> Iterator[PartRecord]:
        """What a manifest says, or the lines before one; a line that was cut off is the last."""
        try:
            if self._manifest.exists():
                yield from ShareManifest.model_validate_json(self._manifest.read_bytes()).parts
                return
            lines = self._progress.read_bytes().splitlines() if self._progress.exists() else []
        except (OSError, ValidationError) as error:
            reason = str(error).replace("\n", " ")
            raise DataError(f"{self._manifest}: cannot be read: {reason:.200}; remove it") from None
        for line in lines:
            try:
                yield PartRecord.model_validate_json(line)
            except ValidationError:
                warn(f"{self._progress}: a line that was cut off: its part is made anew")

    def _is_whole(self, record: PartRecord) -> bool:
        file = self._folder / record.file
        if file.is_file() and sha256_of(file) == record.sha256:
            return True
        warn(f"{file}: is missing, or not as it was written: it is made anew")
        return False

    @property
    def finished(self) -> ShareManifest | None:
        """The manifest of a share all of whose parts are as they were written; None: not yet."""
        if not self._manifest.exists():
            return None
        manifest = ShareManifest.model_validate_json(self._manifest.read_bytes())
        if len(self._records) < len(manifest.parts):
            return None
        self._mark_success()
        return manifest

    def missing(self, parts: Sequence[pl.Series]) -> list[int]:
        """The numbers of those ``parts``, each a column of users, that are not there."""
        self._manifest.unlink(missing_ok=True)
        (self._folder / SUCCESS).unlink(missing_ok=True)
        with replacing(self._progress) as fresh:
            fresh.write_text("".join(map(_line, self._records.values())), encoding="utf-8")
        return [number for number in range(len(parts)) if number not in self._records]

    def write(self, number: int, users: pl.Series, rows: pl.DataFrame) -> None:
        """Write the ``rows`` of ``users``; DataError: the disk is full, and nothing is left."""
        content = io.BytesIO()
        rows.write_parquet(content, compression="zstd")
        file = self._folder / f"part-{self._share}-{number:05}.parquet"
        with replacing(file) as fresh:
            fresh.write_bytes(content.getbuffer())
        self._records[number] = record = PartRecord(
            part=number,
            file=file.name,
            sha256=sha256(content.getbuffer()).hexdigest(),
            users=len(users),
            first=users[0],
            last=users[-1],
            sources=dict(sorted(Counter(rows["source"].to_list()).items())),
        )
        try:
            with self._progress.open("a", encoding="utf-8") as lines:
                lines.write(_line(record))
        except OSError as error:
            raise DataError(f"{self._progress}: cannot be written: {error.strerror}") from None

    def finish(self, unknown_clicks: int) -> ShareManifest:
        """Write the manifest; where that was the last share's, the folder is marked whole."""
        records = [self._records[number] for number in sorted(self._records)]
        counts = Counter[str]()
        for record in records:
            counts.update(record.sources)
        manifest = ShareManifest(
            share=str(self._share),
            parameters=self._parameters,
            users=sum(record.users for record in records),
            unknown_clicks=unknown_clicks,
            sources=dict(sorted(counts.items())),
            versions={**versions(), "polars": pl.__version__},
            parts=records,
        )
        _write_json(self._manifest, manifest.model_dump())
        self._mark_success()
        return manifest

    def _mark_success(self) -> None:
        """What is left to do once a manifest is there."""
        self._progress.unlink(missing_ok=True)
        names = (
            f"_manifest-{Share(n + 1, self._share.total)}.json" for n in range(self._share.total)
        )
        if all((self._folder / name).exists() for name in names):
            (self._folder / SUCCESS).touch()


def _line(record: PartRecord) -> str:
    return record.model_dump_json() + "\n"


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    with replacing(file) as fresh:
        fresh.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
