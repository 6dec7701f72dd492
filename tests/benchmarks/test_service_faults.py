# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the table of faults counts: writes that are lost are seen, and so are those that are not."""

from __future__ import annotations

import numpy as np
import pytest
from fault_table.click_sender import UserClicks, judged
from fault_table.item_writer import ItemWriter
from fault_table.row import FaultRow, page_of

from paddlerec_milvus.retrieval.user_history import UserState

CALLERS = 4  # the clicks of users 0 and 2 are sent until they are acknowledged


class Histories:
    def __init__(self, *stored: list[int]) -> None:
        self._stored = stored

    def read_all(self, users):
        empty = np.zeros((0, 0), np.float32)
        return {
            user: UserState(user, self._stored[user], len(self._stored[user]), "", empty)
            for user in users
        }


@pytest.mark.parametrize(
    ("user", "stored", "wrong"),
    [
        (0, [1, 2, 3], {}),
        (0, [1, 3], {"lost": 1, "out_of_order": 1}),
        (0, [2, 1, 3], {"out_of_order": 1}),
        (0, [1, 2, 2, 3], {"added_twice": 1}),
        (1, [1, 2, 9, 3], {}),  # sent, and not acknowledged: it may be stored
        (1, [1, 2, 8, 3], {"not_sent": 1}),
    ],
)
def test_clicks_beside_what_was_acknowledged(user, stored, wrong):
    sent = [1, 2, 9, 3] if user else [1, 2, 3]
    histories = Histories(*([] if user else [stored]), *([[], stored] if user else []))
    counts = judged(histories, {user: UserClicks([1, 2, 3], sent)}, CALLERS)
    names = ("lost", "out_of_order", "added_twice", "not_sent")
    assert {name: counts[name] for name in names if counts[name]} == wrong
    assert counts["acknowledged"] == 3


class Stored:
    def __init__(self, vectors: dict[int, np.ndarray], count: int) -> None:
        self._vectors, self._count = vectors, count

    def stored_vectors(self, ids):
        return {number: self._vectors[number] for number in ids if number in self._vectors}

    def count(self):
        return self._count


def test_items_beside_what_was_acknowledged(monkeypatch):
    monkeypatch.setattr("fault_table.item_writer.PAUSE", 0)
    interests = np.eye(2, 5, dtype=np.float32)
    sent: dict[int, np.ndarray | None] = {}

    def send(self, http, own, vector):
        sent[own - 100] = vector
        return "503" if own == 103 else "200"

    monkeypatch.setattr(ItemWriter, "_send", send)
    writer = ItemWriter("http://127.0.0.1:1", {n: n + 100 for n in range(1, 6)}, interests)
    writer.start()
    writer._thread.join()
    right = {number: vector for number, vector in sent.items() if vector is not None}
    assert set(right) == {2, 3, 4}
    assert all(np.abs(interests @ vector).max() < 1e-6 for vector in right.values())
    assert writer.stored(Stored(right, 8), 10) == (4, 4, [])
    old = {**right, 3: np.ones(5, np.float32)}  # not acknowledged: either will do
    assert writer.stored(Stored(old, 8), 10) == (4, 4, [])
    for lost in (right | {2: right[3]}, {3: right[3], 4: right[4]}, right | {1: right[2]}):
        assert writer.stored(Stored(lost, 5 + len(lost)), 10)[:2] == (4, 3)
    assert writer.stored(Stored(right, 9), 10)[2] == ["9 items are counted, 8 expected"]


def test_the_page_says_which_promise_was_broken():
    rows = [FaultRow("held", times=2, model_again=[1.0, 3.0]), FaultRow("broken", acknowledged=2)]
    rows[1].require(True, "not this one")
    rows[1].require(rows[1].lost == 0, "two writes lost")
    machine = {"processor": "small", "cores": 1, "memory_gib": 2, "platform": "Linux"}
    page = page_of(rows, {"versions": {"pymilvus": "3.0"}, "machine": machine})
    assert "- broken: two writes lost\n" in page
    assert "not this one" not in page
    assert "2.0, 3.0" in page
    assert "1 broken" in page
