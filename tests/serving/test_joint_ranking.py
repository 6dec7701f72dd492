# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rankings that wait together are made in one visit to a thread, and each has its own answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from paddlerec_milvus.serving import joint_ranking
from paddlerec_milvus.serving.joint_ranking import JointRanking
from paddlerec_milvus.serving.ranked_lists import RankedByRow

LIMIT = 20.0  # seconds; nothing here takes a part of it


class Visits:
    """A pool of one thread that counts what is handed to it, and rankings that tell their order."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool, self.count = pool, 0
        self.order: list[str] = []
        self.may_end = threading.Event()

    def submit(self, *call: object) -> object:
        self.count += 1
        return self._pool.submit(*call)  # type: ignore[arg-type]

    def ranking(self, name: str) -> Callable[[], RankedByRow]:
        def rank() -> RankedByRow:
            self.order.append(name)
            if name == "first":
                assert self.may_end.wait(LIMIT)
            if name == "failing":
                raise FloatingPointError(name)
            return {len(self.order): None}  # type: ignore[dict-item]

        return rank


@pytest.fixture
def visits():
    with ThreadPoolExecutor(1) as pool:
        visits = Visits(pool)
        yield visits
        visits.may_end.set()


def test_those_that_wait_are_ranked_in_one_visit_and_a_failure_is_of_one(visits):
    async def scene() -> list[object]:
        joint = JointRanking(visits)
        names = ("first", "second", "failing", "given up", "last")
        answers = [joint.add(visits.ranking(name)) for name in names]
        answers[3].cancel()
        await asyncio.sleep(0)
        answers.append(joint.add(visits.ranking("later")))
        visits.may_end.set()
        return await asyncio.wait_for(asyncio.gather(*answers, return_exceptions=True), LIMIT)

    results = asyncio.run(scene())
    assert visits.order == ["first", "second", "failing", "last", "later"]
    assert visits.count == 2
    assert [results[place] for place in (0, 1, 4, 5)] == [{n: None} for n in (1, 2, 4, 5)]
    assert isinstance(results[2], FloatingPointError)
    assert isinstance(results[3], asyncio.CancelledError)


def test_a_slow_ranker_answers_one_after_the_other(visits, monkeypatch):
    monkeypatch.setattr(joint_ranking, "VISIT_SECONDS", -1.0)

    async def scene() -> list[object]:
        joint = JointRanking(visits)
        answers = [joint.add(visits.ranking(name)) for name in ("first", "second", "third")]
        visits.may_end.set()
        return await asyncio.wait_for(asyncio.gather(*answers), LIMIT)

    assert asyncio.run(scene()) == [{1: None}, {2: None}, {3: None}]
    assert visits.count == 3


def test_when_the_threads_end_nobody_waits_for_ever(visits):
    async def scene() -> list[object]:
        joint = JointRanking(visits)
        visits._pool.submit(visits.ranking("first"))
        answers = [joint.add(visits.ranking(name)) for name in ("second", "third")]
        visits._pool.shutdown(wait=False, cancel_futures=True)
        visits.may_end.set()
        return await asyncio.wait_for(asyncio.gather(*answers, return_exceptions=True), LIMIT)

    assert [type(result) for result in asyncio.run(scene())] == [asyncio.CancelledError] * 2
