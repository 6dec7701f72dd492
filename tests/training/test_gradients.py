# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Gradients of several processes: sums by row, and the memory in which they are exchanged."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest

from paddlerec_milvus.training.exchange import Collected, SharedMemory
from paddlerec_milvus.training.gradients import set_sparse_gradient, sum_rows, updates_rows_alone
from paddlerec_milvus.training.processes import ALONE


class TestSumRows:
    @pytest.mark.parametrize("parts", [1, 2, 3])
    def test_against_a_dense_sum(self, parts: int) -> None:
        rng = np.random.default_rng(1)
        counts = np.array([9, 0, 14])
        ids = rng.integers(0, 12, [3, 20])  # rows come twice, in a process and among them
        values = rng.standard_normal([3, 20, 5]).astype(np.float32)
        dense = np.zeros([12, 5])
        for process, count in enumerate(counts):
            np.add.at(dense, ids[process, :count], values[process, :count].astype(np.float64))
        found = [sum_rows(Collected(counts, ids, values), part, parts) for part in range(parts)]
        rows = np.concatenate([part[0] for part in found])
        assert sorted(rows) == np.flatnonzero(dense.any(axis=1)).tolist()
        assert all((np.diff(part[0]) > 0).all() for part in found)
        assert {part[2] for part in found} == {len(rows)}
        sizes = [len(part[0]) for part in found]
        assert max(sizes) - min(sizes) <= 1
        mean = np.concatenate([part[1] for part in found])
        np.testing.assert_allclose(mean, dense[rows] / 3, atol=1e-6)

    def test_fewer_rows_than_processes(self) -> None:
        one = Collected(np.array([1, 2]), np.full([2, 4], 7), np.ones([2, 4, 2], np.float32))
        # (1 + 2 times 1) / 2 processes; the leader has the row
        rows, mean, total = sum_rows(one, 0, 2)
        assert (rows.tolist(), mean.tolist(), total) == ([7], [[1.5, 1.5]], 1)
        assert sum_rows(one, 1, 2)[0].tolist() == []

    def test_shares_of_many_rows(self) -> None:
        ids = np.arange(2000)[None, :]
        many = Collected(np.array([2000]), ids, np.ones([1, 2000, 1], np.float32))
        shares = [sum_rows(many, part, 3)[0] for part in range(3)]
        assert sorted(np.concatenate(shares)) == list(range(2000))
        assert max(map(len, shares)) - min(map(len, shares)) <= 64

    def test_nothing(self) -> None:
        none = Collected(np.array([0, 0]), np.zeros([2, 1], np.int64), np.zeros([2, 1, 3], "f4"))
        rows, mean, total = sum_rows(none, 0, 1)
        assert (len(rows), mean.shape, total) == (0, (0, 3), 0)


def test_a_sparse_gradient_that_was_set_is_the_one_that_steps() -> None:
    table = paddle.nn.Embedding(6, 2, sparse=True)
    optimizer = paddle.optimizer.SGD(0.5, parameters=table.parameters())
    before = table.weight.numpy()
    for rows in ([1, 4], [0, 2, 5]):
        values = np.arange(2.0 * len(rows), dtype=np.float32).reshape(-1, 2)
        set_sparse_gradient(table.weight, np.array(rows), values)
        optimizer.step()
        before[rows] -= 0.5 * values
        np.testing.assert_allclose(table.weight.numpy(), before, atol=1e-6)
        optimizer.clear_grad()


def test_optimizers_that_move_only_the_rows_of_a_batch() -> None:
    def given(name: str, **options: Any) -> Any:
        kind = getattr(paddle.optimizer, name)
        return kind(learning_rate=0.1, parameters=paddle.nn.Linear(1, 1).parameters(), **options)

    clip = {"grad_clip": paddle.nn.ClipGradByGlobalNorm(1.0)}
    alone = [given("Adam", lazy_mode=True), given("SGD"), given("Adagrad")]
    not_alone = [given("Adam"), given("Momentum"), given("AdamW"), given("SGD", **clip)]
    assert all(map(updates_rows_alone, alone))
    assert not any(map(updates_rows_alone, not_alone))


def test_shared_memory_makes_room_for_more_rows() -> None:
    exchange = SharedMemory.open(ALONE, 2, 3, [4])
    assert exchange is not None
    for count in (2, 50, 3):
        rows, values = np.arange(count), paddle.randn([count, 4])
        dense = [paddle.to_tensor([1.0, 2.0]), paddle.to_tensor([count + 0.0])]
        header, row, (found,) = exchange(np.array([0.0, 5.0], "f4"), dense, [(rows, values)])
        assert header.tolist() == [0.0, 5.0]
        assert row.tolist() == [1.0, 2.0, count]
        assert found.ids[0, : found.counts[0]].tolist() == rows.tolist()
        assert (found.values[0, :count] == values.numpy()).all()
