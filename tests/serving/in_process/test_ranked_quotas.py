# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The service ranks the candidates that the ranker's own quotas leave, of whatever channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from in_process import ITEMS, SmallIndex, TinyEncoder, in_process_app
from library import small_ranking

from paddlerec_milvus.data.item_times import ItemTimes
from paddlerec_milvus.ranking.channels import NEW, POPULAR, RISING
from paddlerec_milvus.ranking.features import FEATURES
from paddlerec_milvus.ranking.ranking_model import RankingModel
from paddlerec_milvus.ranking.trends import Trends

HISTORY = [3, 7, 11]


def timed_ranking(**quotas: int) -> RankingModel:
    """Items from 31 on are new, those from 21 on rise."""
    ranking = small_ranking()
    items = np.arange(ITEMS + 1)
    last = np.where(items > 30, items - 30, np.where(items > 20, 60 - items, 5))
    before = np.where(items > 30, 0, 5)
    age = np.where(items > 0, 9.0, np.nan).astype(np.float32)
    trends = Trends.of(ItemTimes(age, np.zeros_like(items), before, last))
    ranking.channels = ranking.channels._replace(quotas=quotas, trends=trends)
    ranking.traits = ranking.traits._replace(trends=trends)
    return ranking


def recommended(ranking: RankingModel | None, index: Any = None, **body: Any) -> dict[str, Any]:
    settings = {"ranking": ranking, "ranking_timeout": 60.0}
    with in_process_app(index, **settings) as service:
        request = {"hist_item": [HISTORY], "top_k": 40, **body}
        answer: dict[str, Any] = service.http.post("/recommend", json=request).json()
    return answer


def channels_of(answer: dict[str, Any]) -> dict[int, dict[str, int]]:
    return {one["id"]: one["channels"] for one in answer["recommendations"][0]}


def test_candidates_are_those_of_the_rankers_quotas() -> None:
    answer = recommended(timed_ranking(popular=2, rising=3, new=4), explain=True)
    assert answer["source"] == ["ranked"]
    assert channels_of(answer) == {
        1: {POPULAR: 1},
        2: {POPULAR: 2},
        21: {RISING: 1},
        22: {RISING: 2},
        23: {RISING: 3},
        40: {NEW: 1},
        39: {NEW: 2},
        38: {NEW: 3},
        37: {NEW: 4},
    }


def test_the_vector_model_is_searched_for_its_quota_but_an_unranked_list_is_long() -> None:
    searched = []

    class Index(SmallIndex):
        def search(self, queries: Any, k: int, **options: Any) -> Any:
            searched.append(k)
            return super().search(queries, k, **options)

    def index() -> Index:
        return Index(TinyEncoder().item_vectors())

    found = channels_of(recommended(timed_ranking(interests=4, new=1), index()))
    assert sorted(one["interests"] for one in found.values() if "interests" in one) == [1, 2, 3, 4]
    assert len(found) in (4, 5)
    unranked = recommended(None, index())
    assert (unranked["source"], len(unranked["recommendations"][0])) == (["unranked"], 37)
    assert max(searched) >= 200
    assert channels_of(recommended(timed_ranking(new=1), index())).keys() == {40}


def test_features_of_times_are_left_to_the_ranker() -> None:
    ranking = timed_ranking(popular=5, new=5)
    seen = []
    scores = ranking.ranker.scores

    def watched(rows: Any, items: Any, history: Any) -> Any:
        seen.append(rows.shape[1])
        return scores(rows, items, history)

    ranking.ranker.scores = watched  # type: ignore[method-assign]
    assert recommended(ranking)["source"] == ["ranked"]
    assert set(seen) == {len(FEATURES) + 2}
