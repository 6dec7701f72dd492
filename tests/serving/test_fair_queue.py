# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Callers have their turns, whatever one of them sends."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from paddlerec_milvus.serving.fair_queue import Caller, FairOrder


class Piece(NamedTuple):
    caller: Caller
    work: float
    number: int


def order_of() -> FairOrder[Piece]:
    return FairOrder(lambda piece: piece.caller, lambda piece: piece.work)


def pieces(*callers: str, work: float = 1) -> list[Piece]:
    """``"a1"``: a piece of the connection 1 of a."""
    return [Piece(Caller(c[0], c), work, number) for number, c in enumerate(callers)]


def done(order: FairOrder[Piece], waiting: list[Piece]) -> list[str]:
    """The connections in the order in which they have their turn, one piece at a time."""
    seen = []
    while waiting:
        first = order.sort(waiting)[0]
        order.charge(first)
        waiting.remove(first)
        seen.append(first.caller.connection)
    return seen


def test_who_came_first_is_first_among_equals():
    waiting = pieces("a1", "b1", "c1")
    assert order_of().sort(waiting) == waiting


def test_one_who_sends_much_waits_for_its_own():
    waiting = pieces("a1", "a1", "a1", "a1", "b1", "c1")
    assert done(order_of(), waiting) == ["a1", "b1", "c1", "a1", "a1", "a1"]


def test_connections_of_one_name_have_the_turns_of_that_name():
    waiting = pieces("a1", "a2", "a3", "a1", "b1", "b1")
    assert done(order_of(), waiting) == ["a1", "b1", "a2", "b1", "a3", "a1"]


def test_work_counts_and_not_the_number_of_requests():
    waiting = [*pieces("a1", "a1", work=3), *pieces("b1", "b1", "b1", "b1")]
    assert done(order_of(), waiting) == ["a1", "b1", "b1", "a1", "b1", "b1"]


def test_who_was_idle_has_saved_nothing_up():
    order = order_of()
    done(order, pieces(*["a1"] * 9))
    assert done(order, pieces("b1", "b1", "b1", "a1")) == ["b1", "a1", "b1", "b1"]
    done(order, pieces(*["a1"] * 9))
    assert done(order, pieces("a1", "b1", "b1", "b1")) == ["a1", "b1", "b1", "b1"]


def test_callers_who_are_always_new_keep_nobody_waiting_for_ever():
    order = order_of()
    done(order, pieces("a0", "a0"))
    waiting, turns = pieces("a0", "a1", "a2", "a3"), 0
    while any(piece.caller.connection == "a0" for piece in waiting):
        first = order.sort(waiting)[0]
        order.charge(first)
        waiting.remove(first)
        turns += 1
        waiting.append(Piece(Caller("a", f"a-new-{turns}"), 1, 100 + turns))
    assert turns <= 4


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.integers(1, 5))))
def test_all_come_and_no_name_gets_ahead_by_more_than_three_pieces(sent):
    waiting = [Piece(Caller(n, f"{n}{c}"), w, i) for i, (n, c, w) in enumerate(sent)]
    order, left, had = order_of(), list(waiting), dict.fromkeys("abc", 0.0)
    while left:
        first = order.sort(left)[0]
        order.charge(first)
        left.remove(first)
        had[first.caller.name] += first.work
        backlogged = {piece.caller.name for piece in left}
        if len(backlogged) == 3:  # all have waited from the start
            assert max(had.values()) - min(had.values()) <= 3 * 5
    assert sorted(order_of().sort(waiting)) == sorted(waiting)
