# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Lists that a service showed, and the clicks that came after: two kinds of files, JSON lines.

A service writes the first (``SERVING_SHOWN_LOG``), the system around it the second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError, model_validator

from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.errors import DataError

SUFFIX = ".jsonl"


class LoggedList(BaseModel):
    """A list of items, best first, and what made it."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str
    """Digest of the vector model."""
    ranker: str | None
    """Digest of the ranker that ordered it; None: none did."""
    source: str
    """As answers say it: ``ranked``, ``unranked``, ``popular`` …"""
    items: list[OwnId]
    """The log's own ids, as they were answered."""
    scores: list[float | None]
    """One for each item; None where nothing scored it."""

    @model_validator(mode="after")
    def _whole(self) -> LoggedList:
        if len(self.items) != len(self.scores):
            raise ValueError(f"{len(self.items)} items and {len(self.scores)} scores")
        if len(set(map(str, self.items))) != len(self.items):
            raise ValueError("an item stands twice in the list")
        return self


class ShadowList(LoggedList):
    """What a configuration that did not answer would have shown."""

    by: str
    """``unranked``, ``ranked`` or ``before``, see ``SERVING_SHADOW``."""


class ShownList(LoggedList):
    """A list that answered a user."""

    time: AwareDatetime
    request_id: str
    """As in the answer's header X-Request-ID."""
    row: int = 0
    """The user's place in the request."""
    user: OwnId | None = None
    """None, a hash, or the id itself, see ``SERVING_SHOWN_USERS``."""
    shadow: ShadowList | None = None


class LoggedClick(BaseModel):
    """A click, on the list of a request, or of a user."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    item: OwnId
    request_id: str | None = None
    row: int = 0
    user: OwnId | None = None
    time: AwareDatetime | None = None
    """ISO 8601 with a zone, or seconds since 1970."""

    @model_validator(mode="after")
    def _has_a_list(self) -> LoggedClick:
        if self.request_id is None and (self.user is None or self.time is None):
            raise ValueError("a click has a request_id, or a user and a time")
        return self


class ShownLists(NamedTuple):
    """What files of shown lists hold."""

    lists: list[ShownList]
    unfinished: int
    """Files whose last line was not written to its end, as when a disk is full; it is left out."""


Line = TypeVar("Line", bound=BaseModel)


def read_shown(paths: Sequence[Path]) -> ShownLists:
    """The lists of files, or of all ``*.jsonl`` of folders.

    DataError: a file cannot be read, a line is none of this format, or there is no list at all.
    """
    lists, unfinished = list[ShownList](), 0
    for file in _files(paths):
        for line in _lines(file, ShownList):
            if line is None:
                unfinished += 1
            else:
                lists.append(line)
    if not lists:
        raise DataError(f"{', '.join(map(str, paths))}: no shown list; see SERVING_SHOWN_LOG")
    return ShownLists(lists, unfinished)


def read_clicks(paths: Sequence[Path]) -> list[LoggedClick]:
    """The clicks of files, or of all ``*.jsonl`` of folders; errors as those of shown lists."""
    clicks = [line for file in _files(paths) for line in _lines(file, LoggedClick) if line]
    if not clicks:
        raise DataError(
            f"{', '.join(map(str, paths))}: no click; expected lines such as "
            '{"request_id": "4f1c…", "item": 43, "time": "2026-01-31T12:00:00Z"}'
        )
    return clicks


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.glob(f"*{SUFFIX}"))
        else:
            yield path


def _lines(file: Path, kind: type[Line]) -> Iterator[Line | None]:
    """Each line of ``file``; None for a last one that does not end and cannot be read."""
    try:
        with file.open("rb") as lines:
            for number, text in enumerate(lines, 1):
                try:
                    yield kind.model_validate_json(text)
                except ValidationError as error:
                    if not text.endswith(b"\n"):
                        yield None
                        return
                    first = error.errors(include_url=False)[0]
                    where = ".".join(map(str, first["loc"]))
                    raise DataError(
                        f"{file}, line {number}: {f'{where}: ' if where else ''}{first['msg']}; "
                        f"found {text.decode('utf-8', 'replace').strip()[:80]!r}"
                    ) from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error
