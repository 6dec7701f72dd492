# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Lookups of many requests are few calls, and each gets its own answer or error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.serving.joint_lookup import JointLookup


class Items:
    """Items below 100 are stored; calls wait until they may go on."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[int], str | None]] = []
        self.may_go, self.fails = threading.Event(), False

    def categories_of(
        self, ids: Sequence[int], consistency: str | None = None
    ) -> Mapping[int, str]:
        self.calls.append((list(ids), consistency))
        assert self.may_go.wait(10)
        if self.fails:
            raise RetrievalError("away")
        return {item: "books" for item in ids if item < 100}


@pytest.fixture
def items() -> Items:
    return Items()


async def asked(items: Items, *questions: tuple[set[int], str | None]) -> list[Mapping[int, str]]:
    """The answers to the first question, and to the others that come while it is under way."""
    with ThreadPoolExecutor(4) as pool:
        lookup = JointLookup(pool)
        tasks = [asyncio.ensure_future(lookup.categories_of(items, *questions[0]))]
        while not items.calls:
            await asyncio.sleep(0)
        tasks += [asyncio.ensure_future(lookup.categories_of(items, *one)) for one in questions[1:]]
        await asyncio.sleep(0)
        items.may_go.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    return [{"error": str(one)} if isinstance(one, RetrievalError) else one for one in answers]


def test_what_is_asked_meanwhile_goes_together(items):
    answers = asyncio.run(asked(items, ({1}, None), ({2, 300}, None), ({3}, None), ({4}, "Strong")))
    assert items.calls == [([1], None), ([2, 3, 300], None), ([4], "Strong")]
    assert 2 in answers[1]
    assert 300 not in answers[1]
    assert answers[3] == {4: "books"}


def test_a_failure_reaches_all_who_asked(items):
    items.fails = True
    answers = asyncio.run(asked(items, ({1}, None), ({2}, None), ({3}, None)))
    assert answers == [{"error": "away"}] * 3
    assert len(items.calls) == 2


def test_who_gives_up_takes_nothing_from_others(items):
    async def run() -> Mapping[int, str]:
        with ThreadPoolExecutor(1) as pool:
            lookup = JointLookup(pool)
            impatient = asyncio.ensure_future(lookup.categories_of(items, {1}, None))
            patient = asyncio.ensure_future(lookup.categories_of(items, {2}, None))
            await asyncio.sleep(0)
            impatient.cancel()
            await asyncio.sleep(0)
            items.may_go.set()
            return await patient

    assert 2 in asyncio.run(run())
    assert asyncio.run(JointLookup(ThreadPoolExecutor(1)).categories_of(items, set(), None)) == {}
