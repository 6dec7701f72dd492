# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What channels and a ranker make of the vector model's lists, for the same users and clicks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.evaluation.metrics import measures_by_user
from paddlerec_milvus.evaluation.results import ChannelResult, Gain, RankingResult
from paddlerec_milvus.evaluation.statistics import paired_bootstrap
from paddlerec_milvus.ranking.channels import CHANNELS, SEARCHED
from paddlerec_milvus.ranking.ranking_model import RankingModel
from paddlerec_milvus.ranking.samples import SearchedUser
from paddlerec_milvus.retrieval.base import MISSING_ID

IntArray = npt.NDArray[np.int64]
ByUser = dict[str, npt.NDArray[np.float64]]

LENGTHS = (10, 50)
LONGEST = SEARCHED


class RankedUsers(NamedTuple):
    """Lists of U users, -1 where one is short, and what channels found."""

    unranked: IntArray
    """[U, 200], the vector model's own."""
    ranked: IntArray
    """[U, 200], from all channels."""
    without: dict[str, IntArray]
    """[U, 200] by channel: the ranked list without what this one alone found."""
    channels: dict[str, ChannelResult]


def rank_users(model: RankingModel, users: Iterable[SearchedUser]) -> RankedUsers:
    """The lists of ``users`` by ``model``, and what each channel brought to them."""
    unranked, ranked = [], []
    columns = {name: CHANNELS.index(name) for name in model.channels.quotas}
    without: dict[str, list[IntArray]] = {name: [] for name in columns}
    counts = np.zeros((len(CHANNELS), 4), np.int64)  # candidates, alone, later clicks, alone
    for user in users:
        excluded = set(user.moment.history.tolist())
        everything = model.channels.most
        best = model.rank(user.clicks, user.interests, user.hits, excluded, everything)
        by_channel = best.ranks > 0
        alone = by_channel & (by_channel.sum(axis=1) == 1)[:, None]
        later = np.isin(best.items, user.moment.later)[:, None]
        counts += np.stack(
            [part.sum(axis=0) for part in (by_channel, alone, by_channel & later, alone & later)],
            axis=1,
        )
        unranked.append(_of_length(user.hits.items))
        ranked.append(_of_length(best.items))
        for name, column in columns.items():
            without[name].append(_of_length(best.items[~alone[:, column]]))
    channels = {
        name: ChannelResult(
            candidates=candidates / len(ranked),
            only=only / len(ranked),
            relevant=relevant,
            relevant_only=relevant_only,
        )
        for name, column in columns.items()
        for candidates, only, relevant, relevant_only in [counts[column].tolist()]
    }
    lists = {name: np.stack(rows) for name, rows in without.items()}
    return RankedUsers(np.stack(unranked), np.stack(ranked), lists, channels)


def ranking_result(model: RankingModel, ranked: RankedUsers, users: HeldOutUsers) -> RankingResult:
    """Relevance of ``ranked`` against the truths of ``users``."""
    before, after = _by_user(ranked.unranked, users), _by_user(ranked.ranked, users)
    gains = {}
    for name, values in after.items():
        difference = paired_bootstrap(values, before[name], resamples=2_000)
        gains[name] = Gain(mean=difference.mean, low=difference.low, high=difference.high)
    return RankingResult(
        ranker=model.digest,
        users=len(users),
        unranked=_means(before),
        ranked=_means(after),
        gain=gains,
        without={name: _means(_by_user(lists, users)) for name, lists in ranked.without.items()},
        channels=ranked.channels,
    )


def ranking_table(result: RankingResult) -> str:
    """Before and after, what is lost without a channel, and what each brought."""
    names = list(result.ranked)
    lines = _before_and_after(result, names)
    lines += [
        [f"ranked, without {name}", *(f"{100 * means[one]:.2f}" for one in names)]
        for name, means in result.without.items()
    ]
    rows = [
        [name, f"{one.candidates:.1f}", f"{one.only:.1f}", one.relevant, one.relevant_only]
        for name, one in result.channels.items()
    ]
    columns = ["channel", "candidates a user", "by it alone", "later clicked", "by it alone"]
    return "\n\n".join([_tabulated(lines[1:], lines[0]), _tabulated(rows, columns)])


def short_ranking_table(result: RankingResult) -> str:
    """Before and after by four measures, and in words what became of the ten best."""
    lines = _before_and_after(result, ["recall@10", "ndcg@10", "recall@50", "ndcg@50"])
    gain = result.gain["ndcg@10"]
    interval = f"95 % interval {100 * gain.low:+.2f} … {100 * gain.high:+.2f}"
    if gain.low > 0:
        verdict = f"adds {100 * gain.mean:.2f} to ndcg@10, more than chance among these users"
    elif gain.high < 0:
        verdict = f"takes {-100 * gain.mean:.2f} from ndcg@10: do not use it"
    else:
        verdict = f"changes ndcg@10 by {100 * gain.mean:+.2f}, which may be chance"
    words = "Both are lists without the history. In the ten best items ranking"
    return f"{_tabulated(lines[1:], lines[0])}\n\n{words} {verdict} ({interval})."


def _before_and_after(result: RankingResult, names: Sequence[str]) -> list[list[str]]:
    """The head of a table, means of both, their difference, and its interval."""
    gains = [result.gain[name] for name in names]
    return [
        [f"per cent, {result.users:,} users", *names],
        ["interests, unranked", *(f"{100 * result.unranked[name]:.2f}" for name in names)],
        ["all channels, ranked", *(f"{100 * result.ranked[name]:.2f}" for name in names)],
        ["gain", *(f"{100 * gain.mean:+.2f}" for gain in gains)],
        ["its 95 % interval", *(f"{100 * one.low:+.2f} … {100 * one.high:+.2f}" for one in gains)],
    ]


def _tabulated(rows: Sequence[Sequence[object]], head: Sequence[str]) -> str:
    return tabulate(rows, headers=head, stralign="right", disable_numparse=True)


def _of_length(items: IntArray) -> IntArray:
    """``items`` [n] cut or filled to ``LONGEST``."""
    row = np.full(LONGEST, MISSING_ID, np.int64)
    row[: len(items)] = items[:LONGEST]
    return row


def _by_user(lists: IntArray, users: HeldOutUsers) -> ByUser:
    """[U] for each measure: four at each of ``LENGTHS``, recall of the whole list."""
    values: ByUser = {}
    for top_n in LENGTHS:
        values |= measures_by_user(lists, users.truth_indptr, users.truths, top_n)
    longest = measures_by_user(lists, users.truth_indptr, users.truths, LONGEST)
    name = f"recall@{LONGEST}"
    return values | {name: longest[name]}


def _means(values: ByUser) -> dict[str, float]:
    return {name: float(array.mean()) for name, array in values.items()}
