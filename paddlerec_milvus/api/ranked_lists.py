# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Ranked lists of a loaded model, and why their items stand where they do.

Letters: B users, k items of a list, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl

from paddlerec_milvus.api.histories import Histories
from paddlerec_milvus.api.loaded_model import LoadedModel
from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.ranking.channels import CHANNELS, INTERESTS, VectorHits
from paddlerec_milvus.ranking.contributions import main_groups_text
from paddlerec_milvus.ranking.ranking_model import RankedCandidates, RankedList, RankingModel
from paddlerec_milvus.retrieval.base import MISSING_ID
from paddlerec_milvus.retrieval.candidates import Candidates, no_candidates, search_users
from paddlerec_milvus.retrieval.milvus import MilvusRetriever

SPARE = 20  # items beyond k, in place of those that were deleted
PLACE = CHANNELS.index(INTERESTS)

RankedLists = Mapping[int, RankedList]  # by row of the call


def ranked_lists(
    model: LoadedModel,
    ranking: RankingModel,
    retriever: MilvusRetriever,
    numbers: Sequence[Sequence[int]],
    k: int,
    *,
    explain: bool = False,
) -> RankedLists:
    """The ``k`` best items of those of B histories in ``numbers`` that are not empty."""
    rows = [row for row, one in enumerate(numbers) if one]
    if not rows:
        return {}
    some = [numbers[row] for row in rows]
    interests, maxlen = model.interests(some), model.encoder.maxlen
    lists = search_users(retriever, interests, ranking.channels.searched, exclude=some)
    ranked = {
        row: ranking.candidates(
            np.array(history[-maxlen:], np.int64),
            interests[at],
            VectorHits.of(lists.ids[at], lists.scores[at], lists.interests[at]),
            set(history),
            explain=explain,
        )
        for at, (row, history) in enumerate(zip(rows, some, strict=True))
    }
    length = k + SPARE
    gone = _deleted(model, retriever, ranked.values(), length)
    if len(gone) > SPARE:  # a list might be short of items that come further down
        length = ranking.channels.most
        gone = _deleted(model, retriever, ranked.values(), length)

    def listed(best: RankedCandidates) -> RankedList:
        there = ~np.isin(best.items[:length], gone)
        return best.listed(np.flatnonzero(there)[:k])

    return {row: listed(best) for row, best in ranked.items()}


def ranked_frame(
    model: LoadedModel, histories: Histories, ranked: RankedLists, k: int, *, explain: bool
) -> pl.DataFrame:
    """The lists of ``histories``, an item a row; see :meth:`Recommender.recommend`.

    Users who have none get popular items.
    """
    users = len(histories.items)
    lists = no_candidates(users, k)
    for row, best in ranked.items():
        count = len(best.items)
        lists.ids[row, :count], lists.scores[row, :count] = best.items, best.scores
        lists.interests[row, :count] = best.interests
    model.fill_with_popular(lists, [row for row in range(users) if row not in ranked])
    frame = model.list_frame(histories, lists)
    return _with_reasons(frame, model, ranked, lists) if explain else frame


def _with_reasons(
    frame: pl.DataFrame, model: LoadedModel, ranked: RankedLists, lists: Candidates
) -> pl.DataFrame:
    """``frame`` of ``lists`` with four columns more, null where no model was asked."""
    columns: list[list[object]] = [[], [], [], []]
    for row, count in enumerate((lists.ids != MISSING_ID).sum(axis=1).tolist()):
        parts = _reasons(model, ranked[row]) if row in ranked else [[None] * count] * 4
        for column, values in zip(columns, parts, strict=True):
            column += values
    places, channels, follows, why = columns
    return frame.with_columns(
        pl.Series("unranked", places, dtype=pl.Int64),
        pl.Series("channels", channels, dtype=pl.String),
        pl.Series("follows", follows, dtype=frame.schema["item"]),
        pl.Series("why", why, dtype=pl.String),
    )


def _reasons(model: LoadedModel, best: RankedList) -> Sequence[Sequence[object]]:
    """[4][k]: place in the model's own order, channels, the click it follows, what moved it."""
    channels = [
        ", ".join(f"{name} {rank}" for name, rank in zip(CHANNELS, ranks, strict=True) if rank)
        for ranks in best.ranks.tolist()
    ]
    clicks = best.follows.tolist()
    own: Sequence[OwnId | None] = model.ids.items.own_ids(clicks)
    contributions = () if best.contributions is None else best.contributions
    why = list(map(main_groups_text, contributions))
    return [
        [place or None for place in best.ranks[:, PLACE].tolist()],
        channels,
        [name if click else None for name, click in zip(own, clicks, strict=True)],
        why + [None] * (len(clicks) - len(why)),
    ]


def _deleted(
    model: LoadedModel,
    retriever: MilvusRetriever,
    ranked: Iterable[RankedCandidates],
    length: int,
) -> list[int]:
    """Of the first ``length`` items that no search has just seen, those that a service deleted."""
    if retriever.count(f"item <= {model.total}") == model.total:
        return []
    unseen = {
        item
        for best in ranked
        for item in best.items[:length][best.ranks[:length, PLACE] == 0].tolist()
    }
    return sorted(unseen - retriever.categories_of(sorted(unseen)).keys()) if unseen else []
