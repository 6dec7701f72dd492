# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Ranked lists for the users of a request, and the answer that is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import numpy as np

from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.ranking.channels import CHANNELS, INTERESTS, Allowed, VectorHits
from paddlerec_milvus.ranking.contributions import main_groups
from paddlerec_milvus.ranking.ranking_model import RankedCandidates, RankingModel
from paddlerec_milvus.retrieval.base import MISSING_ID, IntArray, Retriever
from paddlerec_milvus.retrieval.candidates import no_candidates, popular_items
from paddlerec_milvus.serving.batching import SearchedUsers
from paddlerec_milvus.serving.candidates import ModelCandidates, by_popularity
from paddlerec_milvus.serving.hidden_items import ChangeableItems
from paddlerec_milvus.serving.item_categories import ItemCategories
from paddlerec_milvus.serving.ranking_schemas import (
    MovingFeatures,
    RankedItem,
    RankedSource,
    RecommendAnswer,
)
from paddlerec_milvus.serving.tower import UserTower
from paddlerec_milvus.serving.validation import UserBatch

AHEAD = 4  # further items to ask for, for each that is gone
INTERESTS_COLUMN = CHANNELS.index(INTERESTS)


class ListedItem(NamedTuple):
    """One item of a list, in the numbers of the model."""

    item: int
    score: float | None = None
    channels: Mapping[str, int] = {}
    interest: int | None = None
    follows: int = 0
    why: Sequence[tuple[str, float]] | None = None


Lists = dict[int, list[ListedItem]]  # by the row of the request
RankedByRow = dict[int, RankedCandidates]


def ranked_candidates(
    ranking: RankingModel,
    batch: UserBatch,
    searched: SearchedUsers,
    categories: ItemCategories,
    *,
    explain: bool = False,
) -> RankedByRow:
    """All candidates of the users ``batch.rows``, the best first; errors are those of the ranker.

    With ``explain`` the first ones say what moved them.
    """
    allowed = _allowed(_names(batch), categories, len(ranking.traits.vectors))
    return {
        row: ranking.candidates(
            batch.histories[row, : batch.lengths[row]],
            searched.interests[place],
            _hits(searched, place),
            batch.exclude[row],
            allowed,
            explain=explain,
        )
        for place, row in enumerate(batch.rows.tolist())
    }


def doubtful_items(
    ranked: RankedByRow, top_k: int, checked: Set[int], gone: Set[int], hidden: Set[int]
) -> set[int]:
    """Items of which it is to be asked whether they are stored; none: lists can be made.

    No search has just seen them, they were not ``checked``, and are among the ``top_k`` best of a
    list that are not ``gone``; where some of that list are gone, or are said to be ``hidden``, some
    that stand behind these as well.
    """
    items, perhaps_gone = set[int](), gone | hidden
    for best in ranked.values():
        there = _there(best, gone)
        listed = _unseen(best, there[:top_k])
        if listed <= checked:
            continue
        items |= listed
        if perhaps_gone:
            ahead = AHEAD * (len(best.items) - len(there))
            items |= _unseen(best, there[: top_k + ahead])
            items |= _unseen(best, _there(best, perhaps_gone)[:top_k])
    return items - checked


def _unseen(best: RankedCandidates, places: IntArray) -> set[int]:
    """Of the items at ``places``, those that no search has just seen."""
    return set(best.items[places][best.ranks[places, INTERESTS_COLUMN] == 0].tolist())


def _there(best: RankedCandidates, gone: Set[int]) -> IntArray:
    """The places of the items that are not ``gone``."""
    if not gone:
        return np.arange(len(best.items))
    return np.flatnonzero(~np.isin(best.items, list(gone)))


def gone_items(items: Set[int], stored: Mapping[int, str], batch: UserBatch) -> set[int]:
    """Those of ``items`` that are not ``stored``, or have by now no category that is asked for."""
    names = _names(batch)
    return {
        item
        for item in items
        if item not in stored or (names is not None and stored[item] not in names)
    }


def best_lists(ranked: RankedByRow, gone: Set[int], top_k: int) -> Lists:
    """The ``top_k`` best items of each that are not ``gone``."""
    return {row: _listed(best, gone, top_k) for row, best in ranked.items()}


def ranked_lists(
    ranking: RankingModel,
    retriever: Retriever,
    batch: UserBatch,
    searched: SearchedUsers,
    categories: ItemCategories,
    top_k: int,
) -> Lists:
    """The ``top_k`` best items of the users ``batch.rows``, all of them stored in ``retriever``.

    Errors are those of the ranker and of the retriever.
    """
    ranked = ranked_candidates(ranking, batch, searched, categories)
    if not isinstance(retriever, ChangeableItems):
        return best_lists(ranked, batch.hidden, top_k)
    checked, gone = set[int](), set[int]()
    while items := doubtful_items(ranked, top_k, checked, gone, batch.hidden):
        stored = retriever.categories_of(sorted(items), batch.request.consistency)
        checked |= items
        if not (more := gone_items(items, stored, batch)):
            break
        gone |= more
    return best_lists(ranked, gone, top_k)


def lists_without_search(
    ranking: RankingModel,
    tower: UserTower,
    batch: UserBatch,
    categories: ItemCategories,
    top_k: int,
    *,
    explain: bool = False,
) -> Lists:
    """The same from all channels but the interests, where Milvus does not answer."""
    interests = tower.interests(batch.histories[batch.rows], batch.lengths[batch.rows])
    nothing = no_candidates(len(batch.rows), 0)
    near = np.full((*interests.shape[:2], 0), MISSING_ID, np.int64)
    searched = SearchedUsers(interests, ModelCandidates(nothing, near, 0.0))
    ranked = ranked_candidates(ranking, batch, searched, categories, explain=explain)
    return best_lists(ranked, batch.hidden, top_k)


def unranked_lists(batch: UserBatch, searched: SearchedUsers, top_k: int) -> Lists:
    """The vector model's own order for the users ``batch.rows``."""
    lists: Lists = {}
    for place, row in enumerate(batch.rows.tolist()):
        hits = _hits(searched, place)
        columns = (array[:top_k].tolist() for array in hits)
        lists[row] = [
            ListedItem(item, score, {INTERESTS: rank}, interest)
            for rank, (item, score, interest) in enumerate(zip(*columns, strict=True), 1)
        ]
    return lists


def popular_lists(batch: UserBatch, catalogue: Catalogue, rows: Iterable[int], top_k: int) -> Lists:
    """The most popular items for ``rows``."""
    items = by_popularity(batch, catalogue)
    return {
        row: [ListedItem(item) for item in popular_items(top_k, batch.not_popular(row), items)]
        for row in rows
    }


def ranked_answer(
    batch: UserBatch,
    catalogue: Catalogue,
    lists: Lists,
    sources: list[RankedSource],
    ranker: str | None,
) -> RecommendAnswer:
    """``lists`` in the ids of the request."""
    rows = [lists[row] for row in range(len(sources))]
    return RecommendAnswer.model_construct(
        recommendations=[named_items(one, batch, catalogue) for one in rows],
        source=sources,
        ranker=ranker,
        unknown=batch.unknown,
    )


def named_items(
    items: list[ListedItem], batch: UserBatch, catalogue: Catalogue
) -> list[RankedItem]:
    """``items`` in the ids of the request, without one that somebody else stored, without an id."""
    own = batch.ids.own_ids([one.item for one in items])
    clicks = batch.ids.own_ids([one.follows for one in items if one.follows])
    follows = dict(zip((one.follows for one in items if one.follows), clicks, strict=True))
    return [
        RankedItem.model_construct(
            id=name,
            title=catalogue.titles.get(one.item),
            score=one.score,
            channels=one.channels,
            interest=one.interest,
            follows=follows.get(one.follows),
            why=None if one.why is None else [_moving(*pair) for pair in one.why],
        )
        for one, name in zip(items, own, strict=True)
        if name is not None
    ]


def _moving(group: str, contribution: float) -> MovingFeatures:
    return MovingFeatures.model_construct(group=group, contribution=contribution)


def _hits(searched: SearchedUsers, place: int) -> VectorHits:
    return VectorHits.of(*(array[place] for array in searched.results.candidates))


def _listed(ranked: RankedCandidates, gone: Set[int], top_k: int) -> list[ListedItem]:
    best = ranked.listed(_there(ranked, gone)[:top_k])
    columns = (best.items, best.scores, best.ranks, best.interests, best.follows)
    explained = () if best.contributions is None else best.contributions
    return [
        ListedItem(
            item,
            score,
            {name: rank for name, rank in zip(CHANNELS, ranks, strict=True) if rank},
            interest,
            follows,
            main_groups(explained[row]) if row < len(explained) else None,
        )
        for row, (item, score, ranks, interest, follows) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        )
    ]


def _names(batch: UserBatch) -> Set[str] | None:
    """The categories that items must have one of; None: any will do."""
    return None if batch.request.filter is None else set(batch.request.filter.category)


def _allowed(names: Set[str] | None, categories: ItemCategories, item_count: int) -> Allowed | None:
    """[item_count], the items of the categories ``names``; None: there is no filter."""
    if names is None:
        return None
    allowed = np.zeros(item_count, np.bool_)
    allowed[categories.items_of(names)] = True
    return allowed
