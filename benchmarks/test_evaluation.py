# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Evaluation of the test users, exact search: the loop over users, and all that a report says."""

from __future__ import annotations

from typing import Any

import pytest

from paddlerec_milvus.evaluation.evaluator import Evaluation
from paddlerec_milvus.evaluation.predict import Search, Stopwatch, candidates_of
from paddlerec_milvus.evaluation.results import EpochResult
from paddlerec_milvus.settings import Settings

TOP_N = 50
ROUNDS = 5


@pytest.mark.benchmark(group="evaluation")
def test_candidates(benchmark: Any, settings: Settings) -> None:
    whole = Evaluation(settings, top_n=TOP_N, exact=True)
    whole.encoder.load(settings.path("infer_load_path") / "0")
    search = Search.exactly(whole.encoder.item_vectors(), settings.retrieval.metric, TOP_N)
    arguments = (whole.encoder, search, whole.queries, settings.runner.infer_batch_size)

    benchmark.extra_info["users"] = len(whole.users)
    lists, _ = benchmark.pedantic(
        lambda: candidates_of(*arguments, Stopwatch()), rounds=ROUNDS, warmup_rounds=1
    )
    assert lists.shape == (len(whole.users), TOP_N)


@pytest.mark.benchmark(group="evaluation")
def test_report(benchmark: Any, settings: Settings) -> None:
    def evaluate() -> EpochResult:
        return Evaluation(settings, top_n=TOP_N, exact=True).epochs()["0"]

    report = benchmark.pedantic(evaluate, rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info["users"] = report.users
    assert report.relevance.recall > 0
