# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Where a log comes from: each source says what it is and brings a split dataset.

``identity`` goes into meta.json; a second run with the same identity has nothing to do.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import polars as pl

from paddlerec_milvus.data.amazonbook import ADDRESS, read_tarball
from paddlerec_milvus.data.dataset import Dataset, SplitLog
from paddlerec_milvus.data.download import fetch
from paddlerec_milvus.data.files import sha256_of
from paddlerec_milvus.data.item_titles import read_titles_file, titles_of
from paddlerec_milvus.data.log_bytes import log_files
from paddlerec_milvus.data.log_options import LogOptions
from paddlerec_milvus.data.log_table import frame_table
from paddlerec_milvus.data.raw_log import RawLog
from paddlerec_milvus.data.read_log import JSON_LINES, read_interactions, read_tables
from paddlerec_milvus.data.split import split_log
from paddlerec_milvus.data.split_choice import BY_USERS, SplitChoice
from paddlerec_milvus.data.synthetic import synthetic_log
from paddlerec_milvus.errors import DataError

Identity = dict[str, str | int | bool | float]


class Source(Protocol):
    """One way to get a dataset."""

    def identity(self) -> Identity:
        """Kind, parameters and checksums: equal for equal datasets."""

    def dataset(self, seed: int, min_count: int, split: SplitChoice = BY_USERS) -> SplitLog:
        """Read, filter and split."""


@dataclass(frozen=True)
class Sample:
    """The synthetic log; its defaults are those of the yamls in models/."""

    users: int = 6000
    items: int = 2000
    clicks: int = 120_000

    def identity(self) -> Identity:
        """The sizes of the log; its seed is not the source's."""
        return {"kind": "sample", "users": self.users, "items": self.items, "clicks": self.clicks}

    def dataset(self, seed: int, min_count: int, split: SplitChoice = BY_USERS) -> Dataset:
        """See Source; the seed draws the log as well."""
        log = synthetic_log(self.users, self.items, self.clicks, seed)
        return split_log(log, seed, min_count, split)


@dataclass(frozen=True)
class Interactions:
    """A log of any format, file or folder, with a table of titles where there is one."""

    file: Path
    titles: Path | None = None
    string_ids: bool = False
    options: LogOptions = field(default_factory=LogOptions)

    def identity(self) -> Identity:
        """Kind and what tells one such log from another, see Source."""
        return self.identity_of(_of_log(self.file))

    def identity_of(self, log: Identity) -> Identity:
        """The same of a ``log`` whose name and checksum are known."""
        return {
            "kind": "interactions",
            **log,
            **_of_titles(self.titles),
            "string_ids": self.string_ids,
            **self.options.identity(),
        }

    def dataset(self, seed: int, min_count: int, split: SplitChoice = BY_USERS) -> Dataset:
        """Read, filter and split the files, see Source."""
        log = read_interactions(self.file, self.string_ids, self.options)
        dataset = split_log(_with_titles(log, self.titles), seed, min_count, split)
        return _with_notes(dataset, log)


@dataclass(frozen=True)
class Reviews:
    """Amazon's review file, with a table of titles where there is one."""

    file: Path
    titles: Path | None = None
    options: LogOptions = field(default_factory=LogOptions)

    def identity(self) -> Identity:
        """Kind and what tells one such log from another, see Source."""
        return self.identity_of(_of_log(self.file))

    def identity_of(self, log: Identity) -> Identity:
        """The same of a ``log`` whose name and checksum are known."""
        return {
            "kind": "reviews",
            **log,
            **_of_titles(self.titles),
            **self.options.identity(),
        }

    def dataset(self, seed: int, min_count: int, split: SplitChoice = BY_USERS) -> Dataset:
        """Read, filter and split the files, see Source."""
        log = read_interactions(self.file, True, self.options)
        require_reviews(str(self.file), log.notes["format"])
        dataset = split_log(_with_titles(log, self.titles), seed, min_count, split)
        return _with_notes(dataset, log)


@dataclass(frozen=True, eq=False)
class DataFrameLog:
    """A log that is in memory, with a table of titles where there is one.

    ``frame`` has named columns, those of a log; ``titles`` has item, title and perhaps category.
    """

    frame: pl.DataFrame
    titles: pl.DataFrame | None = None
    string_ids: bool = False
    options: LogOptions = field(default_factory=LogOptions)

    def identity(self) -> Identity:
        """Kind and what tells one such log from another, see Source."""
        identity: Identity = {"kind": "data frame", "sha256": _sum_of(self.frame)}
        if self.titles is not None:
            identity["items_sha256"] = _sum_of(self.titles)
        return {**identity, "string_ids": self.string_ids, **self.options.identity()}

    def dataset(self, seed: int, min_count: int, split: SplitChoice = BY_USERS) -> Dataset:
        """Read, filter and split the rows, see Source."""
        table = frame_table(self.frame, "clicks", self.options)
        log = read_tables([table], Path("clicks"), self.string_ids, self.options)
        if self.titles is not None:
            log = _titled(log, titles_of(self.titles, "items"), "items")
        return _with_notes(split_log(log, seed, min_count, split), log)


@dataclass(frozen=True)
class AmazonBook:
    """PaddleRec's tarball; its own ids and split are kept, so seed and limit change nothing."""

    cache: Path
    url: str = ADDRESS

    def identity(self) -> Identity:
        """Kind and what tells one such log from another, see Source."""
        return {"kind": "amazonbook", "url": self.url}

    def dataset(self, seed: int, min_count: int, split: SplitChoice = BY_USERS) -> Dataset:
        """Fetch and read the tarball, which is split by users already."""
        return read_tarball(fetch(self.url, self.cache))


def _of_log(file: Path) -> Identity:
    """A name for the reader of meta.json, a checksum for the comparison of two runs."""
    return {"file": file.name, "sha256": _checksum(file)}


def _of_titles(titles: Path | None) -> Identity:
    if titles is None:
        return {}
    return {"items_file": titles.name, "items_sha256": sha256_of(titles)}


def _sum_of(frame: pl.DataFrame) -> str:
    content = io.BytesIO()
    frame.write_ipc(content)
    return hashlib.sha256(content.getbuffer()).hexdigest()


def _checksum(path: Path) -> str:
    """That of a file, or of a folder's parts: their checksums, one after the other."""
    if not path.is_dir():
        return sha256_of(path)
    return hashlib.sha256("".join(map(sha256_of, log_files(path))).encode()).hexdigest()


def _with_notes(dataset: Dataset, log: RawLog) -> Dataset:
    return dataclasses.replace(dataset, notes={**dataset.notes, "log": log.notes})


def _with_titles(log: RawLog, path: Path | None) -> RawLog:
    return log if path is None else _titled(log, read_titles_file(path), str(path))


def require_reviews(place: str, form: str) -> None:
    """DataError: a log whose format is no JSON lines is no file of reviews."""
    if form != JSON_LINES:
        raise DataError(
            f"{place}: found {form}, expected a JSON object a line; read it with --interactions"
        )


def _titled(log: RawLog, titles: pl.DataFrame, place: str) -> RawLog:
    """The log with its table of titles; DataError: that of another log."""
    require_titles_of(titles, log.item_ids, place)
    return dataclasses.replace(log, titles=titles)


def require_titles_of(titles: pl.DataFrame, item_ids: pl.Series, place: str) -> None:
    """DataError: no title is of an item of the log."""
    example = str(titles["source_id"].first())
    if not titles["source_id"].is_in(item_ids.cast(pl.String).to_list()).any():
        raise DataError(
            f"{place}: none of its {titles.height} items is in the log (it has "
            f"'{example}', the log '{item_ids[0]}'); name the table that "
            "belongs to the log"
        )
