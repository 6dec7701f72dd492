# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Lists to learn a ranking from: candidates as serving makes them, for clicks that no model saw.

The users are those of ``valid/``, whom the vector model was not trained on. Of users who are not in
the training log at all, earlier places of their clicks are used as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.data.histories import pad_histories
from paddlerec_milvus.data.log import ClickLog, group_clicks
from paddlerec_milvus.errors import DataError
from paddlerec_milvus.ranking.channels import Channels, Pool, VectorHits
from paddlerec_milvus.ranking.features import ItemTraits, feature_rows
from paddlerec_milvus.retrieval.base import Retriever
from paddlerec_milvus.retrieval.candidates import search_users

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
Interests = Callable[[IntArray, IntArray, IntArray | None], FloatArray]

PLACES, LISTS = 8, 12_000  # of a user's clicks, and of all users: at most so many lists
ROUNDS = 200  # of boosting: trees that a forest has at most
EARLIEST = 0.3  # of a user's clicks: there a list may begin
FURTHER = 0.4  # of a click: what one counts that comes after those that are to be recommended
BATCH = 64  # users searched for at a time
NOTHING: IntArray = np.empty(0, np.int64)


class Moment(NamedTuple):
    """A user at one place of the clicks: what came before, and what is to be recommended."""

    user: int
    """The user's id."""
    history: IntArray
    """[L], the newest last."""
    later: IntArray
    """Clicks after that, the labels."""
    further: IntArray = NOTHING
    """Clicks after these, labels that count ``FURTHER``."""


class SearchedUser(NamedTuple):
    """A moment with what the vector model found for it."""

    moment: Moment
    clicks: IntArray
    """The last ``maxlen`` of the history, that the model sees."""
    interests: FloatArray
    """[K, D]"""
    hits: VectorHits


class RankingLists(NamedTuple):
    """Candidates of g lists, one list after the other, with what came true."""

    rows: FloatArray
    """[n, F]"""
    labels: FloatArray
    """[n], 1: the item was clicked later, ``FURTHER``: later still, 0: it was not."""
    sizes: IntArray
    """[g], candidates of each list; their sum is n."""
    items: IntArray
    """[n], ids."""
    clicks: IntArray
    """[g, L], the clicks before each list, the newest last, padded with 0 on the right."""

    def split(self, first: int, last: int) -> tuple[RankingLists, RankingLists]:
        """The lists ``first`` … ``last`` - 1, and all others."""
        ends = np.concatenate([[0], np.cumsum(self.sizes)])
        rows, chosen = slice(ends[first], ends[last]), slice(first, last)
        inside = RankingLists(
            self.rows[rows],
            self.labels[rows],
            self.sizes[chosen],
            self.items[rows],
            self.clicks[chosen],
        )
        others = RankingLists(
            np.delete(self.rows, rows, axis=0),
            np.delete(self.labels, rows),
            np.delete(self.sizes, chosen),
            np.delete(self.items, rows),
            np.delete(self.clicks, chosen, axis=0),
        )
        return inside, others


def held_out_moments(users: HeldOutUsers) -> list[Moment]:
    """One moment for each user: the history, and the truths."""
    rows = zip(users.user_ids.tolist(), users.history_list(), users.truth_list(), strict=True)
    return [Moment(*row) for row in rows]


def training_moments(
    users: HeldOutUsers, log: ClickLog, seed: int, most: int = LISTS
) -> list[Moment]:
    """About ``most`` moments of ``users``, whole users one after the other in an order of ``seed``.

    Never more than ``most``, nor more than eight of a user; fewer where there are few clicks.

    DataError: a label is a click of the same user in ``log``, which the vector model learned.
    """
    require_unseen(users, log)
    rng, known = np.random.default_rng(seed), set(log.user_ids.tolist())
    moments = held_out_moments(users)
    order = rng.permutation(len(moments))[:most]
    places = int(np.clip(most // len(order), 1, PLACES))
    chosen: list[Moment] = []
    for row in order.tolist():
        moment = moments[row]
        chosen.append(moment)
        if moment.user not in known:
            chosen += _earlier(moment, places - 1, rng)
    return chosen


def _earlier(moment: Moment, count: int, rng: np.random.Generator) -> Iterator[Moment]:
    """At most ``count`` other places of the same user's clicks, with as many labels, and further
    ones: few users teach a ranker, and the end of a list is learned better from more clicks.
    """
    clicks = np.concatenate([moment.history, moment.later])
    first, end = max(1, int(EARLIEST * len(clicks))), len(clicks)
    others = np.setdiff1d(np.arange(first, end), [len(moment.history)])
    for place in rng.choice(others, min(count, len(others)), replace=False).tolist():
        later, further = np.split(clicks[place:], [len(moment.later)])
        yield Moment(moment.user, clicks[:place], later, further)


def require_unseen(users: HeldOutUsers, log: ClickLog) -> None:
    """DataError where a truth of ``users`` is a click of the same user in ``log``.

    An item of the history that is clicked again is not: ``log`` has it as often as the history.
    """
    span = 1 + max(int(log.items.max(initial=0)), users.largest_item())
    rows = np.searchsorted(log.user_ids, users.user_ids)
    rows = np.minimum(rows, max(len(log.user_ids) - 1, 0))
    there = log.user_ids[rows] == users.user_ids
    row_of = np.where(there, rows, -1)

    def clicks_of(indptr: IntArray, items: IntArray) -> IntArray:
        owners = np.repeat(row_of, np.diff(indptr))
        clicks: IntArray = (owners * span + items)[owners >= 0]
        return clicks

    labels = clicks_of(users.truth_indptr, users.truths)
    clicked = np.repeat(np.arange(len(log.user_ids)), log.lengths) * span + log.items
    before = clicks_of(users.history_indptr, users.history)
    leaked = _counts(labels, clicked) > _counts(labels, before)
    if leaked.any():
        row = int(labels[leaked][0]) // span
        raise DataError(
            f"{int(leaked.sum())} clicks that the ranker is to predict are in the training log, "
            f"the first of user {log.user_ids[row]}: the vector model has seen them, and a ranker "
            "trained so would trust it too much; prepare the data anew"
        )


def with_held_out(log: ClickLog, users: HeldOutUsers, item_count: int) -> ClickLog:
    """``log`` with all clicks of ``users`` on items below ``item_count``.

    Of a user who is in ``log``, which then holds the history, these are the truths.
    """
    owners, items = [np.repeat(log.user_ids, log.lengths)], [log.items]
    known = set(log.user_ids.tolist())
    for user, history, later, _ in held_out_moments(users):
        clicks = later if user in known else np.concatenate([history, later])
        items.append(clicks[clicks < item_count])
        owners.append(np.full(len(items[-1]), user))
    merged = np.concatenate(items)
    return group_clicks(np.concatenate(owners), merged, np.arange(len(merged)))


def _counts(clicks: IntArray, among: IntArray) -> IntArray:
    """How often each of ``clicks`` is in ``among``."""
    ordered = np.sort(among)
    right, left = (np.searchsorted(ordered, clicks, side) for side in ("right", "left"))
    return right - left


def searched_users(
    moments: list[Moment], interests: Interests, maxlen: int, retriever: Retriever, most: int
) -> Iterator[SearchedUser]:
    """``most`` items that the vector model finds for each of ``moments``, histories left out."""
    for start in tqdm(range(0, len(moments), BATCH), "users", unit="batch", disable=None):
        part = moments[start : start + BATCH]
        histories, lengths = pad_histories([one.history for one in part], maxlen)
        ids = np.array([one.user for one in part], np.int64)
        vectors = interests(histories, lengths, ids)
        excluded = [one.history for one in part]
        lists = search_users(retriever, vectors, most, exclude=excluded)
        for row, moment in enumerate(part):
            hits = VectorHits.of(lists.ids[row], lists.scores[row], lists.interests[row])
            yield SearchedUser(moment, moment.history[-maxlen:], vectors[row], hits)


def pool_and_rows(
    channels: Channels, traits: ItemTraits, user: SearchedUser
) -> tuple[Pool, FloatArray]:
    """All candidates of ``user``, and their features [n, F]."""
    excluded = set(user.moment.history.tolist())
    pool = channels.pool(user.clicks, user.hits, excluded)
    return pool, feature_rows(pool, user.clicks, user.interests, user.hits, traits)


def ranking_lists(
    channels: Channels, traits: ItemTraits, users: Iterator[SearchedUser], most: int = LISTS
) -> RankingLists:
    """All that is known of the first ``most`` users with a label among their candidates."""
    rows, labels = [np.empty((0, len(traits.features)), np.float32)], [np.empty(0, np.float32)]
    items, clicks = [np.empty(0, np.int64)], list[IntArray]()
    for user in users:
        pool, features = pool_and_rows(channels, traits, user)
        label = np.isin(pool.items, user.moment.further).astype(np.float32) * FURTHER
        label[np.isin(pool.items, user.moment.later)] = 1
        if label.any():
            rows.append(features)
            labels.append(label)
            items.append(pool.items)
            clicks.append(user.clicks)
        if len(clicks) == most:
            break
    sizes = np.array([len(one) for one in labels[1:]], np.int64)
    padded, _ = pad_histories(clicks, max((len(one) for one in clicks), default=1))
    return RankingLists(
        np.concatenate(rows), np.concatenate(labels), sizes, np.concatenate(items), padded
    )
