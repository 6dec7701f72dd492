# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Filling a collection: checked rows, batched insert, index, load, exact count, then the switch."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from paddlerec_milvus.errors import RefusedError, RetrievalError, SettingsError
from paddlerec_milvus.retrieval import versions
from paddlerec_milvus.retrieval.base import FloatArray, IntArray
from paddlerec_milvus.retrieval.connection import CATEGORY_BYTES, Connection
from paddlerec_milvus.retrieval.indexes import Index

BATCH_BYTES = 16 << 20  # a message may hold 64 MB
ROW_OVERHEAD_BYTES = 32  # id, lengths and tags of a row
BUILD_SECONDS = 4 * 3600.0  # for an index or a load that makes no end
FLUSH_SECONDS = 600.0
POLL_SECONDS = 0.1


class BuildTimes(NamedTuple):
    """What a build took."""

    insert_seconds: float
    """Sending the rows and flushing them to disk."""
    index_seconds: float
    load_seconds: float
    rows: int
    compact_seconds: float = 0.0
    """Joining the segments of the insert, where there were several."""


class Rows(NamedTuple):
    """Checked rows of a collection."""

    vectors: FloatArray
    """[N, D] float32."""
    ids: IntArray
    """[N] int64, distinct."""
    categories: Sequence[str] | None
    """N strings of at most 256 bytes, or None: all empty."""

    @classmethod
    def checked(
        cls, vectors: ArrayLike, ids: ArrayLike, categories: Sequence[str] | None = None
    ) -> Rows:
        """Rows that Milvus will take; raises SettingsError naming the first that it would not."""
        array = np.ascontiguousarray(vectors, np.float32)
        numbers: IntArray = np.asarray(ids).astype(np.int64)
        if array.ndim != 2 or numbers.shape != array.shape[:1] or 0 in array.shape:
            raise SettingsError(
                f"item vectors have the shape {list(array.shape)} and ids {list(numbers.shape)}, "
                "expected [N, D] and [N] with at least one row"
            )
        if not np.isfinite(array).all():
            row = int(np.argmin(np.isfinite(array).all(axis=1)))
            raise SettingsError(f"the vector of item {numbers[row]} holds NaN or infinite values")
        distinct, counts = np.unique(numbers, return_counts=True)
        if len(distinct) != len(numbers):
            raise SettingsError(f"item id {distinct[counts > 1][0]} is given twice")
        if categories is not None:
            if len(categories) != len(numbers):
                raise SettingsError(f"{len(numbers)} items, but {len(categories)} categories")
            for number, category in zip(numbers, categories, strict=True):
                if len(category.encode()) > CATEGORY_BYTES:
                    raise SettingsError(
                        f"the category of item {number} is longer than {CATEGORY_BYTES} bytes: "
                        f"{category[:40]}…"
                    )
        return cls(array, numbers, categories)

    def batches(self) -> Iterator[list[dict[str, Any]]]:
        """The rows as pymilvus takes them, in pieces that fit a message."""
        longest = CATEGORY_BYTES if self.categories is not None else 0
        row_bytes = 4 * self.vectors.shape[1] + longest + ROW_OVERHEAD_BYTES
        step = max(1, BATCH_BYTES // row_bytes)
        for start in range(0, len(self.ids), step):
            part = slice(start, start + step)
            ids = self.ids[part].tolist()
            categories = self.categories[part] if self.categories is not None else [""] * len(ids)
            yield [
                {"item": number, "category": category, "vector": vector}
                for number, category, vector in zip(
                    ids, categories, self.vectors[part], strict=True
                )
            ]


def build_collection(
    connection: Connection, alias: str, rows: Rows, metric: str, index: Index
) -> BuildTimes:
    """Build a version with ``rows`` beside the serving one, check it, let it take its place.

    On any failure (Ctrl-C included) the half version is dropped and the old one goes on serving.
    """
    serving, name = versions.prepare(connection, alias)
    try:
        connection.create_collection(name, rows.vectors.shape[1], versions.mark(alias))
        times = _fill(connection, name, rows, metric, index)
        stored = _count(connection, name)
        if stored != len(rows.ids):
            raise RetrievalError(
                f"Milvus at {connection.uri}: {name!r} holds {stored:,} rows after the insert, "
                f"expected {len(rows.ids):,}; the collection {alias!r} is unchanged"
            )
        versions.switch(connection, alias, serving, name)
    except BaseException:
        # the first error is the one to show; what cannot be dropped now, the next build drops
        with contextlib.suppress(RetrievalError):
            now = versions.describe(connection, alias)
            if now is None or now.name != name:
                connection.call("drop_collection", name)
        raise
    return times


def _fill(connection: Connection, name: str, rows: Rows, metric: str, index: Index) -> BuildTimes:
    """Insert, flush once, index, load; each waited for."""
    start = time.perf_counter()
    with tqdm(total=len(rows.ids), desc="insert", unit="row", disable=None) as bar:
        for batch in rows.batches():
            connection.call("insert", name, batch)
            bar.update(len(batch))
    connection.call("flush", name, within=max(FLUSH_SECONDS, connection.timeout))
    inserted = time.perf_counter()
    _compact(connection, name)
    compacted = time.perf_counter()
    connection.create_index(name, index.type_name, metric, index.build_params(), BUILD_SECONDS)
    _wait(connection, name, "index", lambda: _indexed(connection, name, len(rows.ids)))
    indexed = time.perf_counter()
    connection.call("load_collection", name, _async=True)
    _wait(connection, name, "load", lambda: _loaded(connection, name))
    loaded = time.perf_counter()
    return BuildTimes(
        inserted - start,
        indexed - compacted,
        loaded - indexed,
        len(rows.ids),
        compacted - inserted,
    )


def _compact(connection: Connection, name: str) -> None:
    """Join small segments: each is searched apart, and one below 1,024 rows gets no index."""
    if connection.is_lite or len(connection.call("list_persistent_segments", name)) < 2:
        return
    job = connection.call("compact", name)

    def share() -> float:
        return float(str(connection.call("get_compaction_state", job)) == "Completed")

    _wait(connection, name, "compaction", share)


def _count(connection: Connection, name: str) -> int:
    found = connection.call("query", name, output_fields=["count(*)"], consistency_level="Strong")
    return int(found[0]["count(*)"])


def _indexed(connection: Connection, name: str, rows: int) -> float:
    """The share of rows in the index, 1 when it is finished."""
    state = connection.call("describe_index", name, "vector")
    if str(state.get("state")) == "Failed":
        raise RefusedError(
            f"Milvus at {connection.uri} could not build the index {state.get('index_type')} of "
            f"{name!r}: {state.get('index_state_fail_reason') or 'it gives no reason'}"
        )
    done = int(state.get("indexed_rows", 0))
    finished = str(state.get("state")) == "Finished" and done >= rows
    return 1.0 if finished else min(done / rows, 0.99)


def _loaded(connection: Connection, name: str) -> float:
    """The share of the collection that is loaded, 1 when it is."""
    state = connection.call("get_load_state", name)
    if getattr(state["state"], "name", str(state["state"])) == "Loaded":
        return 1.0
    return min(float(state.get("progress", 0)) / 100, 0.99)


def _wait(connection: Connection, name: str, what: str, share: Callable[[], float]) -> None:
    """Ask for ``share`` until it is 1; raises RetrievalError after four hours."""
    end = time.monotonic() + BUILD_SECONDS
    with tqdm(total=100, desc=what, unit="%", disable=None) as bar:
        while (done := share()) < 1:
            bar.update(int(100 * done) - bar.n)
            if time.monotonic() > end:
                raise RetrievalError(
                    f"Milvus at {connection.uri}: the {what} of {name!r} was not ready after "
                    f"{BUILD_SECONDS / 3600:g} hours; see the server's log"
                )
            time.sleep(POLL_SECONDS)
        bar.update(100 - bar.n)
