# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Lists before and after a ranker: whose they are, what each channel brought, and the numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from test_report import EPOCH

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.evaluation.metrics import (
    find_hits,
    reciprocal_rank,
    reciprocal_rank_by_user,
)
from paddlerec_milvus.evaluation.ranking_report import (
    LONGEST,
    RankedUsers,
    rank_users,
    ranking_result,
    ranking_table,
    short_ranking_table,
)
from paddlerec_milvus.evaluation.results import ChannelResult, EpochResult, Gain, RankingResult
from paddlerec_milvus.ranking.channels import INTERESTS, QUOTAS

sys.path.append(str(Path(__file__).resolve().parent.parent / "ranking"))

from small_ranking import ScoreOnly, model_of, searched, users_of

SEEDS = range(20)


def rows_of(*rows: list[int]) -> np.ndarray:
    return np.array([row + [-1] * (LONGEST - len(row)) for row in rows], np.int64)


def without_places(row: np.ndarray) -> list[int]:
    """The items of a list; the places after them are empty."""
    items = row[row != -1]
    assert row[: len(items)].tolist() == items.tolist()
    return items.tolist()


def by_hand() -> tuple[RankedUsers, HeldOutUsers]:
    """Two users: the first's click at the places 4 and 2, the second's at 12 and 1."""
    users = users_of([[1], [2]], [[30], [31]])
    unranked = rows_of([3, 4, 5, 30], [*range(3, 14), 31])
    ranked = rows_of([3, 30, 4], [31, 3])
    without = dict.fromkeys(QUOTAS, ranked) | {INTERESTS: rows_of([3], [31])}
    channel = ChannelResult(candidates=2.5, only=1.0, relevant=2, relevant_only=1)
    return RankedUsers(unranked, ranked, without, dict.fromkeys(QUOTAS, channel)), users


def result() -> RankingResult:
    return ranking_result(model_of(ScoreOnly()), *by_hand())


def test_reciprocal_rank_by_hand() -> None:
    # hits at the places 2 and 4: 1 / 2; at 1: 1; no hit: 0; a hit beyond the cut: 0
    lists = np.array([[7, 3, 9, 4], [5, 1, 2, -1], [1, 2, -1, -1], [1, 2, 8, 6]])
    indptr, truths = np.array([0, 2, 3, 4, 5]), np.array([3, 4, 5, 9, 6])
    assert reciprocal_rank(find_hits(lists, indptr, truths)).tolist() == [0.5, 1, 0, 0.25]
    assert reciprocal_rank_by_user(lists, indptr, truths, 3).tolist() == [0.5, 1, 0, 0]


def test_lists_before_and_after_and_without_what_one_channel_alone_had() -> None:
    model = model_of(ScoreOnly())
    ranked = rank_users(model, searched(SEEDS))
    for row, user in enumerate(searched(SEEDS)):
        assert without_places(ranked.unranked[row]) == user.hits.items.tolist()
        excluded = set(user.moment.history.tolist())
        best = model.rank(user.clicks, user.interests, user.hits, excluded, 10_000)
        assert without_places(ranked.ranked[row]) == best.items.tolist()
        for column, name in enumerate(QUOTAS):
            others = np.delete(best.ranks, column, axis=1).any(axis=1)
            assert without_places(ranked.without[name][row]) == best.items[others].tolist()


def test_what_a_channel_brought_is_counted_over_users() -> None:
    model = model_of(ScoreOnly())
    ranked = rank_users(model, searched(SEEDS))
    for column, name in enumerate(QUOTAS):
        candidates, only, relevant, relevant_only = 0, 0, 0, 0
        for user in searched(SEEDS):
            excluded = set(user.moment.history.tolist())
            pool = model.channels.pool(user.clicks, user.hits, excluded)
            for item, ranks in zip(pool.items.tolist(), pool.ranks, strict=True):
                mine, clicked = bool(ranks[column]), item in user.moment.later.tolist()
                alone = mine and (ranks > 0).sum() == 1
                candidates, only = candidates + mine, only + alone
                relevant, relevant_only = (
                    relevant + (mine and clicked),
                    relevant_only + (alone and clicked),
                )
        assert ranked.channels[name] == ChannelResult(
            candidates=candidates / len(SEEDS),
            only=only / len(SEEDS),
            relevant=relevant,
            relevant_only=relevant_only,
        )


def test_means_and_gains_by_hand() -> None:
    before, after = result().unranked, result().ranked
    assert (before["recall@10"], before["recall@50"], after["recall@10"]) == (0.5, 1, 1)
    assert before["mrr@10"] == pytest.approx((1 / 4 + 0) / 2)
    assert before["mrr@50"] == pytest.approx((1 / 4 + 1 / 12) / 2)
    assert after["mrr@10"] == after["mrr@50"] == pytest.approx((1 / 2 + 1) / 2)
    assert before["recall@200"] == after["recall@200"] == 1
    assert list(before) == list(after) == list(result().gain)
    for name, gain in result().gain.items():
        assert gain.mean == pytest.approx(after[name] - before[name])
        assert gain.low <= gain.mean <= gain.high
    assert result().without[INTERESTS]["recall@10"] == 0.5
    assert result().without["popular"] == after
    assert result().users == 2
    assert result().ranker == model_of(ScoreOnly()).manifest.digest


def test_the_tables_show_every_list_and_channel() -> None:
    first, second = ranking_table(result()).split("\n\n")
    lines = first.splitlines()
    assert lines[0].split()[:4] == ["per", "cent,", "2", "users"]
    assert lines[2].split()[:3] == ["interests,", "unranked", "50.00"]
    assert lines[3].split()[:4] == ["all", "channels,", "ranked", "100.00"]
    assert lines[4].split()[:2] == ["gain", "+50.00"]
    for name in QUOTAS:
        assert f"without {name} " in first
        assert f"{name} " in second
    assert second.splitlines()[-1].split() == ["popular", "2.5", "1.0", "2", "1"]


@pytest.mark.parametrize(
    ("low", "mean", "high", "words"),
    [
        (0.001, 0.02, 0.04, "ranking adds 2.00 to ndcg@10, more than chance among these users"),
        (-0.01, 0.02, 0.05, "changes ndcg@10 by +2.00, which may be chance (95 % interval -1.00"),
        (-0.04, -0.02, -0.01, "takes 2.00 from ndcg@10: do not use it (95 % interval -4.00 … -1."),
    ],
)
def test_the_short_table_says_whether_the_gain_is_noise(
    low: float, mean: float, high: float, words: str
) -> None:
    gain = Gain(low=low, mean=mean, high=high)
    text = short_ranking_table(
        result().model_copy(update={"gain": dict.fromkeys(result().gain, gain)})
    )
    assert words in text
    assert text.splitlines()[0].split()[-4:] == ["recall@10", "ndcg@10", "recall@50", "ndcg@50"]


def test_a_file_holds_a_ranking_where_one_was_measured() -> None:
    old = EpochResult.model_validate(EPOCH)  # of a time before there were rankers
    assert old.ranking is None
    assert old.model_dump() == EPOCH
    measured = old.model_copy(update={"ranking": result()})
    again = EpochResult.model_validate_json(measured.model_dump_json())
    assert again == measured
    assert again.model_dump() == EPOCH | {"ranking": result().model_dump()}
