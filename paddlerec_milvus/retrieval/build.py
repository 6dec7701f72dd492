# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Filling a collection: checked rows, batched insert, index, load, exact count."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from paddlerec_milvus.errors import RefusedError, RetrievalError, SettingsError
from paddlerec_milvus.retrieval.base import FloatArray, IntArray
from paddlerec_milvus.retrieval.connection import CATEGORY_BYTES, OWN_ID_BYTES, Connection
from paddlerec_milvus.retrieval.indexes import Flat, Index, setting_name

BATCH_BYTES = 16 << 20  # a message may hold 64 MB
ROW_OVERHEAD_BYTES = 32  # id, lengths and tags of a row
BUILD_SECONDS = 4 * 3600.0  # for an index or a load that makes no end
FLUSH_SECONDS = 600.0
TRIAL_ROWS = 2_000  # a server gives fewer than 1,024 no index
TRIAL_SECONDS = 60.0
POLL_SECONDS = 0.1
LARGE_BYTES = 64 << 20  # of vectors: Milvus writes a statistics log for each 10 MB, and lets ten be
LISTED_SECONDS = 5.0  # until a flushed segment is listed
SMALL_SHARE = 0.1  # of the rows: what other collections may hold and be written anew


class BuildTimes(NamedTuple):
    """What a build took."""

    insert_seconds: float
    """Sending the rows and flushing them to disk."""
    index_seconds: float
    load_seconds: float
    rows: int
    compact_seconds: float = 0.0
    """Joining the segments of the insert, or writing a large one anew; 0: neither was asked for."""


class Rows(NamedTuple):
    """Checked rows of a collection."""

    vectors: FloatArray
    """[N, D] float32."""
    ids: IntArray
    """[N] int64, distinct."""
    categories: Sequence[str] | None
    """N strings of at most 256 bytes, or None: all empty."""
    own_ids: Sequence[str] | None = None
    """N strings of at most 512 bytes, or None: all empty."""

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

    @property
    def size(self) -> int:
        """N, how many rows."""
        return len(self.ids)

    @property
    def dimension(self) -> int:
        """D of the vectors."""
        return int(self.vectors.shape[1])

    def require_searchable(self) -> None:
        """SettingsError: an id is no item's (0 is padding), or a vector is all zeros."""
        if (self.ids < 1).any():
            raise SettingsError(
                f"item id {self.ids.min()}: ids are from 1, for 0 is padding; leave that row out"
            )
        if (zeros := ~self.vectors.any(axis=1)).any():
            raise SettingsError(
                f"the vector of item {self.ids[zeros][0]} is all zeros ({zeros.sum():,} such): "
                "it is near nothing. Leave them out, or see why the model has no vector for them"
            )

    def first(self, count: int) -> Rows:
        """The first ``count`` rows."""
        categories = None if self.categories is None else self.categories[:count]
        return Rows(self.vectors[:count], self.ids[:count], categories)

    def batches(self) -> Iterator[list[dict[str, Any]]]:
        """The rows as pymilvus takes them, in pieces that fit a message."""
        longest = CATEGORY_BYTES if self.categories is not None else 0
        longest += OWN_ID_BYTES if self.own_ids is not None else 0
        row_bytes = 4 * self.vectors.shape[1] + longest + ROW_OVERHEAD_BYTES
        step = max(1, BATCH_BYTES // row_bytes)
        for start in range(0, len(self.ids), step):
            part = slice(start, start + step)
            ids = self.ids[part].tolist()
            categories = self.categories[part] if self.categories is not None else [""] * len(ids)
            rows: list[dict[str, Any]] = [
                {"item": number, "category": category, "vector": vector}
                for number, category, vector in zip(
                    ids, categories, self.vectors[part], strict=True
                )
            ]
            if self.own_ids is not None:
                for row, own in zip(rows, self.own_ids[part], strict=True):
                    row["own_id"] = own
            yield rows


class RowBlocks(NamedTuple):
    """Rows that need not be in memory all at once: blocks of them, made when they are sent."""

    size: int
    """N, how many rows in all."""
    dimension: int
    """D of the vectors."""
    blocks: Callable[[], Iterator[Rows]]
    """Checked rows, whose ids are distinct over all blocks; from the first one at each call."""

    def first(self, count: int) -> Rows:
        """The first ``count`` rows, as far as the first block holds them."""
        return next(self.blocks()).first(count)

    def batches(self) -> Iterator[list[dict[str, Any]]]:
        """The rows as pymilvus takes them, in pieces that fit a message."""
        for rows in self.blocks():
            yield from rows.batches()


def fill(
    connection: Connection,
    name: str,
    rows: Rows | RowBlocks,
    metric: str,
    index: Index,
    within: float = BUILD_SECONDS,
) -> BuildTimes:
    """Fill the empty collection ``name``: insert, flush once, compact, index, load, count.

    Each step is waited for, ``within`` seconds. ``rows`` of the times are those that Milvus counts.
    """
    start = time.perf_counter()
    with tqdm(total=rows.size, desc="insert", unit="row", disable=None) as bar:
        for batch in rows.batches():
            connection.call("insert", name, batch)
            bar.update(len(batch))
    connection.call("flush", name, within=max(FLUSH_SECONDS, connection.timeout))
    inserted = time.perf_counter()
    _compact(connection, name, rows, metric, within)
    compacted = time.perf_counter()
    times = _index_and_load(connection, name, rows.size, metric, index, within)
    return times._replace(
        insert_seconds=inserted - start,
        compact_seconds=compacted - inserted,
        rows=_count(connection, name),
    )


def try_index(
    connection: Connection, name: str, rows: Rows | RowBlocks, metric: str, index: Index
) -> None:
    """Build a few of ``rows`` in ``name`` and drop it; RefusedError if that takes a minute.

    A server without DISKANN (the local one) takes the order, fails, and tries again for ever,
    while it says that the index is in progress.
    """
    fill(connection, name, rows.first(TRIAL_ROWS), metric, index, TRIAL_SECONDS)
    connection.call("drop_collection", name)


def _index_and_load(
    connection: Connection, name: str, rows: int, metric: str, index: Index, within: float
) -> BuildTimes:
    start = time.perf_counter()
    _index(connection, name, rows, metric, index, within)
    indexed = time.perf_counter()
    connection.call("load_collection", name, _async=True)
    _wait(connection, name, "load", lambda: _loaded(connection, name), within)
    return BuildTimes(0.0, indexed - start, time.perf_counter() - indexed, rows)


def index_rows(connection: Connection, name: str, metric: str, index: Index) -> BuildTimes:
    """Build ``index`` on the rows that the collection ``name`` holds, in place of the one there."""
    rows = _count(connection, name)
    connection.call("release_collection", name)
    connection.call("drop_index", name, "vector")
    return _index_and_load(connection, name, rows, metric, index, BUILD_SECONDS)


def _compact(
    connection: Connection, name: str, rows: Rows | RowBlocks, metric: str, within: float
) -> None:
    """Join small segments: each is searched apart, and one below 1,024 rows gets no index.

    A large one is written anew, too: an insert leaves it more statistics logs than Milvus 2.3 lets
    be ("stats number is too much"); it would write it anew by itself a minute later, and build its
    index again. Milvus compacts only what has an index. FLAT counts as one and takes no time to
    build, so that the real one need not be built twice.
    """
    sizes = _segment_sizes(connection, name, rows.size)
    large = 4 * rows.size * rows.dimension > LARGE_BYTES
    if len(sizes) < (1 if large else 2) or _disturbs_others(connection, name, rows.size):
        return
    _index(connection, name, rows.size, metric, Flat(), within)
    job = connection.call("compact", name)

    def share() -> float:
        return float(str(connection.call("get_compaction_state", job)) == "Completed")

    _wait(connection, name, "compaction", share, within)
    connection.call("drop_index", name, "vector")


def _disturbs_others(connection: Connection, name: str, rows: int) -> bool:
    """Whether to compact ``name``, of ``rows``, would cost others more than it saves here.

    Milvus 2.3, asked to compact one collection, writes all of its collections anew and builds their
    indexes again, for which it takes all processors. Not asked, it compacts this one by itself
    within a minute or two, and builds its index a second time. So it is asked where the others are
    small, as those of users' histories are beside a first insert.
    """
    if not str(connection.call("get_server_version")).lstrip("v").startswith("2.3."):
        return False
    others = [one for one in connection.call("list_collections") if one != name]
    try:
        stored = [int(connection.call("get_collection_stats", one)["row_count"]) for one in others]
    except RetrievalError:  # it went meanwhile, or is not ours to look at
        return True
    return sum(stored) > SMALL_SHARE * rows


def _segment_sizes(connection: Connection, name: str, rows: int) -> list[int]:
    """Rows of each segment on disk, once they are ``rows`` together, or after some seconds.

    None where Milvus does not tell: Lite, managed ones.
    """
    if connection.is_lite:
        return []
    end = time.monotonic() + LISTED_SECONDS
    try:
        while True:
            segments = connection.call("list_persistent_segments", name)
            sizes = [segment.num_rows for segment in segments]
            if sum(sizes) >= rows or time.monotonic() > end:
                return sizes
            time.sleep(POLL_SECONDS)
    except RetrievalError:
        return []


def _index(
    connection: Connection, name: str, rows: int, metric: str, index: Index, within: float
) -> None:
    try:
        connection.create_index(name, index.type_name, metric, index.build_params(), within)
    except RefusedError as error:
        raise RefusedError(
            f"index.type: {setting_name(index.label)} cannot be built: {error}. Where this Milvus "
            "lacks that index, set another"
        ) from error
    what = f"{index.type_name} index"
    _wait(connection, name, what, lambda: _indexed(connection, name, rows), within)


def _count(connection: Connection, name: str) -> int:
    rows = connection.call("query", name, output_fields=["count(*)"], consistency_level="Strong")
    return int(rows[0]["count(*)"])


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


def _wait(
    connection: Connection, name: str, what: str, share: Callable[[], float], within: float
) -> None:
    """Ask for ``share`` until it is 1; raises RefusedError after ``within`` seconds."""
    end = time.monotonic() + within
    with tqdm(total=100, desc=what, unit="%", disable=None) as bar:
        while (done := share()) < 1:
            bar.update(int(100 * done) - bar.n)
            if time.monotonic() > end:
                raise RefusedError(
                    f"Milvus at {connection.uri}: the {what} of {name!r} was not ready after "
                    f"{within:,g} s; see the server's log"
                )
            time.sleep(POLL_SECONDS)
        bar.update(100 - bar.n)
