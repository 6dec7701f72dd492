# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Features, column by column, against what they say in words, item by item."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_ranking import CATEGORIES, ITEMS, VECTORS, channels, hits_of, interests, traits

from paddlerec_milvus.ranking.channels import PAIR_TABLES, Channels, Pool
from paddlerec_milvus.ranking.features import FEATURES, GROUPS, NEVER, feature_rows
from paddlerec_milvus.ranking.pair_table import GAMMA

KNOWN = channels()
NAN = math.nan


def weight(name: str, click: int, item: int) -> float:
    hits = KNOWN.tables[name].hits(np.array([click]))
    return float(hits.total[hits.items == item].sum())


def slow_pairs(name: str, item: int, newest_first: list[int]) -> list[float]:
    weights = [weight(name, click, item) for click in newest_first]
    total = sum(GAMMA**age * one for age, one in enumerate(weights))
    return [total, max(weights), weights[0], sum(one > 0 for one in weights)]


def cosine(one: NDArray[Any], other: NDArray[Any]) -> float:
    lengths = math.sqrt((one @ one) * (other @ other))
    return float(one @ other) / lengths if lengths else 0.0


def slow_row(pool: Pool, row: int, history: list[int], vectors: NDArray[Any]) -> list[float]:
    item, newest_first = int(pool.items[row]), history[::-1]
    scores = sorted((float(VECTORS[item] @ one) for one in vectors), reverse=True)
    best_of_all = max(float((vectors @ VECTORS[other]).max()) for other in pool.items)
    cosines = [float(VECTORS[item] @ VECTORS[click]) for click in newest_first[:3]]
    place = [float(rank) if rank else NAN for rank in pool.ranks[row]]
    popular = {i: math.log1p(KNOWN.clicks[i]) for i in [item, *history]}
    mine = CATEGORIES[item]
    low = KNOWN.graph.vectors.astype(np.float64)
    passed = sum(low[item] @ low[click] / math.sqrt(KNOWN.clicks[click] + 1) for click in history)
    rows = low * KNOWN.graph.values
    near = [cosine(rows[item], rows[click]) for click in history]
    same = [mine != -1 and CATEGORIES[click] == mine for click in newest_first]
    return [
        *(scores[0], scores[0] - best_of_all, scores[min(1, len(scores) - 1)]),
        *(sum(scores) / len(scores), place[0], cosines[0], max(cosines)),
        *(value for name in PAIR_TABLES for value in slow_pairs(name, item, newest_first)),
        *place[1:3],
        *(math.copysign(math.sqrt(abs(passed)), passed), sum(near) / len(near), max(near)),
        popular[item],
        popular[item] - sum(popular[click] for click in history) / len(history),
        popular[item] - popular[history[-1]],
        *(sum(same), same.index(True) if any(same) else NEVER),
        len(history),
    ]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("history", [[3, 17, 3, 22, 8], [39], [4]])
def test_every_column_is_what_its_name_says(history: list[int], count: int) -> None:
    clicks, vectors = np.array(history), interests(7, count)
    hits = hits_of([9, 30, 12])
    pool = KNOWN.pool(clicks, hits, set(history))
    rows = feature_rows(pool, clicks, vectors, hits, traits())
    assert rows.shape == (len(pool.items), len(FEATURES))
    assert rows.dtype == np.float32
    slow = np.array([slow_row(pool, row, history, vectors) for row in range(len(rows))])
    for column, name in enumerate(FEATURES):
        expected = pytest.approx(slow[:, column], rel=1e-4, abs=1e-5, nan_ok=True)
        assert rows[:, column] == expected, name


def test_an_item_without_category_matches_none() -> None:
    categories = np.full(len(VECTORS), -1)
    clicks, hits = np.array([3, 4]), hits_of([9])
    pool = KNOWN.pool(clicks, hits, set())
    rows = feature_rows(pool, clicks, interests(1), hits, traits()._replace(categories=categories))
    assert set(rows[:, FEATURES.index("category_clicks")].tolist()) == {0}
    assert set(rows[:, FEATURES.index("category_age")].tolist()) == {NEVER}


def test_no_candidates_have_no_rows() -> None:
    empty = Channels(KNOWN.clicks[:1], KNOWN.tables, KNOWN.graph)
    pool = empty.pool(np.array([39]), hits_of([]), {39})
    rows = feature_rows(pool, np.array([39]), interests(1), hits_of([]), traits())
    assert rows.shape == (0, len(FEATURES))


def test_of_an_item_that_came_after_the_model_its_hit_is_known() -> None:
    new, clicks, vectors = ITEMS + 7, np.array([3, 17, 22]), interests(2)
    hits = hits_of([9, new, 30])
    pool = KNOWN.pool(clicks, hits, {3})
    rows = feature_rows(pool, clicks, vectors, hits, traits())
    assert pool.items[-1] == new
    row = dict(zip(FEATURES, rows[-1].tolist(), strict=True))
    assert (row["interest_score"], row["interest_rank"]) == (hits.scores[1], 2)
    best = rows[:, FEATURES.index("interest_score")].max()
    assert row["interest_gap"] == pytest.approx(hits.scores[1] - best)
    unknown = ("interest_second", "interest_mean", "newest_cosine", "recent_cosine")
    assert np.isnan([row[name] for name in unknown]).all()
    assert [row[f"{name}_total"] for name in PAIR_TABLES] == [0, 0, 0]
    assert (row["popularity"], row["category_clicks"], row["category_age"]) == (0, 0, NEVER)
    # the others' rows are as if it had not come, but for the gap to the best
    plain = KNOWN.pool(clicks, hits_of([9, 30]), {3})
    others = feature_rows(plain, clicks, vectors, hits_of([9, 30]), traits())
    columns = [
        i for i, name in enumerate(FEATURES) if name not in ("interest_gap", "interest_rank")
    ]
    assert np.array_equal(rows[:-1, columns], others[:, columns], equal_nan=True)


def test_no_feature_stands_twice() -> None:
    assert len(set(FEATURES)) == len(FEATURES) == sum(map(len, GROUPS.values()))
