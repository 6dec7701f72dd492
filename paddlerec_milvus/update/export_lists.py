# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The lists of an export for held-out users of a log that may number its items otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.data.catalogue import read_catalogue
from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.data.histories import pad_histories
from paddlerec_milvus.data.id_map import IdMap, read_item_ids
from paddlerec_milvus.evaluation.ranking_report import LONGEST, rank_users
from paddlerec_milvus.export.exported_model import ExportedModel
from paddlerec_milvus.export.onnx_tower import OnnxTower
from paddlerec_milvus.ranking.ranking_model import load_ranking
from paddlerec_milvus.ranking.samples import held_out_moments, searched_users
from paddlerec_milvus.retrieval.base import MISSING_ID
from paddlerec_milvus.retrieval.candidates import search_users
from paddlerec_milvus.retrieval.exact import ExactRetriever

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

BATCH = 256


class OfferedLists(NamedTuple):
    """What an export gives to U users, in the numbers of their log; -1 where a list is short."""

    candidates: IntArray
    """[U, N], of the vector model, by exact search."""
    shown: IntArray
    """[U, N'], the same ranked, by its ranker if it has one."""


class ExportLists:
    """An export that answers by exact search, in the ids of ``items``.

    Histories of none of its items get popular ones, as in the service; no list holds the history.
    """

    def __init__(self, export: ExportedModel, items: IdMap, item_count: int) -> None:
        """``item_count`` is of the users' log, ``items`` are its ids."""
        self.export, self.tower = export, OnnxTower(export)
        own = read_item_ids(export.data)
        self._known = np.zeros(item_count, np.int64)  # numbers of the export's, 0: not its item
        # items that are no longer in the log have numbers that nobody clicked
        self._log = item_count + np.arange(self.tower.items + 1)
        for number in range(1, item_count):
            there = None if (one := items.own(number)) is None else own.number(one)
            if there is not None and 0 < there <= self.tower.items:
                self._known[number] = there
                self._log[there] = number
        vectors = self.tower.item_vectors()
        numbers = np.arange(1, self.tower.items + 1)
        self._exact = ExactRetriever(vectors[1:], numbers, export.settings.retrieval.metric)
        self._popular = numbers

    def offered(self, users: HeldOutUsers, top_n: int, *, rank: bool) -> OfferedLists:
        """Lists of ``users``; ``rank``: by its ranker, too, where it has one."""
        histories = self.translated(users)
        candidates = self.candidates(histories, top_n)
        shown = candidates
        if rank and self.export.manifest.ranker:
            shown = self._ranked(users, histories)
        return OfferedLists(self._in_log(candidates), self._in_log(shown))

    def translated(self, users: HeldOutUsers) -> list[IntArray]:
        """The history of each user in the export's numbers, without items that it has not."""
        return [row[row > 0] for row in map(self._known.__getitem__, users.history_list())]

    def candidates(self, histories: list[IntArray], top_n: int) -> IntArray:
        """[U, top_n] for ``histories``, in the export's numbers."""
        top_n = min(top_n, self.tower.items)
        lists = [np.empty((0, top_n), np.int64)]
        for start in range(0, len(histories), BATCH):
            part = histories[start : start + BATCH]
            padded, lengths = pad_histories(part, self.tower.maxlen)
            interests = self.tower.interests(padded, np.maximum(lengths, 1))
            rows = search_users(self._exact, interests, top_n, exclude=part).ids
            rows[lengths == 0] = self._popular[:top_n]
            lists.append(rows)
        return np.concatenate(lists)

    def _ranked(self, users: HeldOutUsers, histories: list[IntArray]) -> IntArray:
        export, tower = self.export, self.tower
        categories = read_catalogue(export.data, tower.items)
        ranking = load_ranking(
            export.checkpoint,
            tower.item_vectors(),
            categories.category_numbers(np.arange(tower.items + 1)),
            tower.fingerprint,
            None,
        )
        lists = np.full((len(users), LONGEST), MISSING_ID, np.int64)
        popular = self._popular[:LONGEST]
        lists[:, : len(popular)] = popular
        with_clicks = [row for row, history in enumerate(histories) if len(history)]
        if not with_clicks:
            return lists
        ends = np.concatenate([[0], np.cumsum([len(histories[row]) for row in with_clicks])])
        own = replace(
            users,
            user_ids=users.user_ids[with_clicks],
            history_indptr=ends.astype(np.int64),
            history=np.concatenate([np.empty(0, np.int64), *histories]),
            truth_indptr=np.zeros(len(with_clicks) + 1, np.int64),
            truths=np.empty(0, np.int64),
        )

        def interests(
            rows: IntArray, lengths: IntArray, _: IntArray | None
        ) -> npt.NDArray[np.float32]:
            return tower.interests(rows, lengths)

        moments = held_out_moments(own)
        most = ranking.channels.searched
        searched = searched_users(moments, interests, tower.maxlen, self._exact, most)
        lists[with_clicks] = rank_users(ranking, searched).ranked
        return lists

    def _in_log(self, lists: IntArray) -> IntArray:
        """``lists`` in the numbers of the users' log."""
        return np.where(lists == MISSING_ID, MISSING_ID, self._log[lists])
