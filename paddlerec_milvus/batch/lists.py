# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Users' histories in, a row with a list for each user out: the core of the job.

Letters: B users, K interests, D dimensions, V items (row 0 is padding).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from paddlerec_milvus.batch.item_vectors import deleted_items, open_items
from paddlerec_milvus.batch.user_model import UserModel, load_model
from paddlerec_milvus.data.histories import pad_histories
from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.errors import ModelError
from paddlerec_milvus.export.exported_model import read_export
from paddlerec_milvus.ranking.channels import CHANNELS, INTERESTS, VectorHits
from paddlerec_milvus.ranking.ranking_model import RankedList
from paddlerec_milvus.retrieval.base import FloatArray, Retriever, checked_k
from paddlerec_milvus.retrieval.candidates import Candidates, find_users, popular_items
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.trained_model import TrainedModel

IntArray = npt.NDArray[np.int64]

BATCH = 512  # users that go through the tower at once
SEARCHES = 3  # batches that are searched for and ranked meanwhile
MODEL, RANKED, POPULAR = "model", "ranked", "popular"


class ListOptions(NamedTuple):
    """What a list is to be like."""

    top_k: int = 50
    rank: bool = False
    """By the ranker beside the model, from all of its channels."""
    exact: bool = False
    """Searched in numpy, without Milvus."""
    exclude_history: bool = False
    """A list holds no item of the user's history; a ranked one never does."""
    popular: bool = True
    """Users without a known click get popular items; False: they get no row."""
    details: bool = False
    """Say of each item which interest and which channels it comes from."""


class BatchUsers(NamedTuple):
    """B users, and their clicks in the model's numbers, oldest first."""

    users: Sequence[OwnId]
    histories: Sequence[IntArray]
    profiles: IntArray
    """[B], numbers of the users in the model's prepared folder, -1: not of one."""


class _List(NamedTuple):
    """The list of one user, in the model's numbers, best first."""

    items: Sequence[int]
    source: str
    scores: Sequence[float] = ()
    interests: Sequence[int] = ()
    channels: Sequence[str] = ()


class UserLists:
    """A model and its items, loaded once: :meth:`load` or :meth:`open`. A context manager.

    A row has ``user``; ``items``, own ids, best first; ``scores`` (float32; of a ranked list the
    ranker's, of popular items none); ``source``: ``model``, ``ranked`` or ``popular``; with
    ``details`` also ``interests`` and ``channels`` of the items. A user's list is the same in any
    company but for the last bit of a score. To be used by one thread.
    """

    def __init__(self, model: UserModel, retriever: Retriever, options: ListOptions) -> None:
        self._model, self._retriever, self._options = model, retriever, options
        self._gone, self._filter = frozenset[int](), ""
        if isinstance(retriever, MilvusRetriever):
            self._gone = deleted_items(retriever, model.total)
            if retriever.count(f"item > {model.total}"):  # which a service added
                self._filter = f"item <= {model.total}"
        numbers = np.arange(1, model.total + 1)
        self._popular = popular_items(options.top_k, self._gone, numbers)

    @classmethod
    def load(
        cls, export: str | Path, milvus_uri: str = "", options: ListOptions | None = None
    ) -> UserLists:
        """The model of the folder ``export``, whose vectors are searched at ``milvus_uri``.

        Without an address as the export's settings and ``MILVUS_URI`` say. Nothing is inserted:
        UserError where Milvus lacks this model's vectors, or the export is damaged.
        """
        changed = [f"milvus.uri={milvus_uri}"] if milvus_uri else []
        trained = read_export(Path(export).absolute(), changed)
        return cls.open(trained, options or ListOptions())

    @classmethod
    def open(
        cls, trained: TrainedModel, options: ListOptions, *, insert: bool = False
    ) -> UserLists:
        """The lists of ``trained``; ``insert``: store its vectors where there are no others.

        UserError: it does not fit its data, has no ranker, or Milvus holds another model.
        """
        checked_k(options.top_k)
        trained.require_fit()
        model = load_model(trained, rank=options.rank)
        if options.exact:
            ids = np.arange(1, model.total + 1, dtype=np.int64)
            metric = trained.settings.retrieval.metric
            return cls(model, ExactRetriever(model.vectors[1:], ids, metric), options)
        retriever = open_items(trained, model, insert=insert)
        try:
            return cls(model, retriever, options)
        except BaseException:
            retriever.close()
            raise

    @property
    def model(self) -> UserModel:
        """The tower, the items and the ranker."""
        return self._model

    def close(self) -> None:
        """Let go of Milvus."""
        if isinstance(self._retriever, MilvusRetriever):
            self._retriever.close()

    def __enter__(self) -> UserLists:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def of(self, users: Sequence[OwnId], histories: Sequence[Sequence[OwnId]]) -> pl.DataFrame:
        """The rows of B ``users`` with these ``histories`` of own ids, oldest click first.

        Ids that the model does not know are left out. ``.to_pandas()`` and ``.to_arrow()`` make
        others of it.
        """
        numbers = [self._model.known(one) for one in histories]
        nobody = np.full(len(numbers), -1, np.int64)
        parts = (
            BatchUsers(users[at : at + BATCH], numbers[at : at + BATCH], nobody[at : at + BATCH])
            for at in range(0, len(users), BATCH)
        )
        frames = list(self.rows(parts))
        return pl.concat(frames) if frames else self._frame([], [])

    def rows(self, batches: Iterable[BatchUsers]) -> Generator[pl.DataFrame, None, None]:
        """The rows of each of ``batches``, in their order.

        While some are searched for and ranked, the next go through the tower.
        """
        under_way: deque[Future[pl.DataFrame]] = deque()
        pool = ThreadPoolExecutor(SEARCHES, "lists")
        try:
            for batch in batches:
                under_way.append(pool.submit(self._rows_of, batch, self._interests(batch)))
                if len(under_way) > SEARCHES:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _interests(self, batch: BatchUsers) -> FloatArray:
        """[m, K, D], of the m users with a known click."""
        some = [row for row, history in enumerate(batch.histories) if len(history)]
        if not some:
            return np.zeros((0, 1, self._model.vectors.shape[1]), np.float32)
        padded = pad_histories([batch.histories[row] for row in some], self._model.maxlen)
        return self._model.interests(*padded, batch.profiles[some])

    def _rows_of(self, batch: BatchUsers, interests: FloatArray) -> pl.DataFrame:
        known = [history for history in batch.histories if len(history)]
        make = self._unranked if self._model.ranking is None else self._ranked
        lists = iter(make(interests, known))
        popular = _List(self._popular, POPULAR)
        rows = [next(lists) if len(history) else popular for history in batch.histories]
        chosen = [
            at for at, one in enumerate(rows) if self._options.popular or one.source != POPULAR
        ]
        return self._frame([batch.users[at] for at in chosen], [rows[at] for at in chosen])

    def _search(
        self, interests: FloatArray, top_n: int, exclude: Sequence[IntArray] | None
    ) -> Candidates:
        return find_users(
            self._retriever, interests, top_n, exclude, filter=self._filter
        ).candidates

    def _unranked(self, interests: FloatArray, histories: Sequence[IntArray]) -> Iterator[_List]:
        exclude = histories if self._options.exclude_history else None
        candidates = self._search(interests, self._options.top_k, exclude)
        for row in range(len(histories)):
            columns = VectorHits.of(*(array[row] for array in candidates))
            items, scores, nearest = (column.tolist() for column in columns)
            yield _List(items, MODEL, scores, nearest, [INTERESTS] * len(items))

    def _ranked(self, interests: FloatArray, histories: Sequence[IntArray]) -> Iterator[_List]:
        ranking = self._model.ranking
        assert ranking is not None
        channels = ranking.channels
        candidates = self._search(interests, channels.searched, histories)
        for row, history in enumerate(histories):
            hits = VectorHits.of(*(array[row] for array in candidates))
            clicks, excluded = history[-self._model.maxlen :], set(history.tolist())
            try:
                best = ranking.rank(clicks, interests[row], hits, excluded, channels.most)
            except FloatingPointError as error:
                raise ModelError(f"{self._model.name}: {error}: train it anew") from None
            yield self._first(best)

    def _first(self, best: RankedList) -> _List:
        """The items of a ranked list that are still stored."""
        chosen = np.flatnonzero(~np.isin(best.items, list(self._gone)))[: self._options.top_k]
        channels = [_channel_words(ranks) for ranks in best.ranks[chosen].tolist()]
        columns = (best.items, best.scores, best.interests)
        items, scores, nearest = (column[chosen].tolist() for column in columns)
        return _List(items, RANKED, scores, nearest, channels)

    def _frame(self, users: Sequence[OwnId], lists: Sequence[_List]) -> pl.DataFrame:
        ids, own = self._model.ids, [self._model.ids.own_ids(one.items) for one in lists]
        kind = pl.Int64 if ids.kind == "int" else pl.String
        user_kind = pl.String if any(isinstance(user, str) for user in users[:1]) else pl.Int64
        columns = [
            pl.Series("user", users, user_kind),
            pl.Series("items", own, pl.List(kind)),
            pl.Series("scores", [one.scores for one in lists], pl.List(pl.Float32)),
            pl.Series("source", [one.source for one in lists], pl.String),
        ]
        if self._options.details:
            columns += [
                pl.Series("interests", [one.interests for one in lists], pl.List(pl.Int64)),
                pl.Series("channels", [one.channels for one in lists], pl.List(pl.String)),
            ]
        return pl.DataFrame(columns)


def _channel_words(ranks: Sequence[int]) -> str:
    """``interests 3, popular 17``: the channels that had an item, and at which place."""
    named = zip(CHANNELS, ranks, strict=True)
    return ", ".join(f"{name} {rank}" for name, rank in named if rank)
