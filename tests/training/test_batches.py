# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Batches from a model folder's reader: each sample once, on a random stream of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from runs import FOLDERS, run
from support import generic_folder

from paddlerec_milvus.collate import as_tensors
from paddlerec_milvus.training.batches import full_batches, open_batches


@pytest.fixture
def mind(tmp_path: Path) -> Path:
    return FOLDERS["mind"](tmp_path / "model")


@pytest.fixture
def generic(tmp_path: Path) -> Path:
    return FOLDERS["generic"](tmp_path / "model")


class TestBatches:
    def test_num_workers_gives_each_sample_once(self, mind: Path, tmp_path: Path) -> None:
        def samples(*options: str) -> list[str]:
            seen: list[Any] = []
            run(mind, tmp_path / "out", "runner.epochs=2", *options, seen=seen)
            assert len(seen) == 20
            assert all(len(batch[0]) == 32 for batch in seen)
            first = [str([p[i].tolist() for p in b]) for b in seen[:10] for i in range(32)]
            again = [str([p[i].tolist() for p in b]) for b in seen[10:] for i in range(32)]
            assert first != again
            assert sorted(first) == sorted(again)
            return first

        assert samples() == samples("runner.num_workers=1")

    def test_num_workers_of_a_generic_reader(self, generic: Path, tmp_path: Path) -> None:
        labels = []
        for workers in (0, 1):
            seen: list[Any] = []
            option = f"runner.num_workers={workers}"
            run(generic, tmp_path / "out", "runner.epochs=1", option, seen=seen)
            labels.append([batch[0].ravel().tolist() for batch in seen])
        assert labels[0] == labels[1]
        assert sum(map(len, labels[0])) == 48

    def test_the_incomplete_batch_is_dropped_as_upstream_does(self, tmp_path: Path) -> None:
        file = generic_folder(tmp_path / "model", samples=47)
        seen: list[Any] = []
        run(file, tmp_path / "out", "runner.epochs=1", seen=seen)
        assert [len(batch[0]) for batch in seen] == [8] * 5

    def test_equal_to_a_data_loader(self) -> None:
        class Samples(paddle.io.IterableDataset):  # type: ignore[misc, unused-ignore]
            def __iter__(self) -> Any:
                for n in range(7):
                    yield [np.array([n, n]), {"a": np.float32(n), "b": [n]}, "text"]

        loader = paddle.io.DataLoader(Samples(), batch_size=3, drop_last=True)
        for ours, theirs in zip(full_batches(Samples(), 3), loader, strict=True):
            assert (ours[0].numpy() == theirs[0].numpy()).all()
            for key in ("a",):
                assert (ours[1][key].numpy() == theirs[1][key].numpy()).all()
                assert ours[1][key].dtype == theirs[1][key].dtype
            assert (ours[1]["b"][0].numpy() == theirs[1]["b"][0].numpy()).all()
            assert ours[2] == theirs[2] == ["text"] * 3

    def test_the_reader_draws_from_a_stream_of_its_own(self) -> None:
        def draws() -> Any:
            while True:
                yield [np.array([np.random.rand()])]  # noqa: NPY002

        def batches(disturb: bool) -> list[float]:
            np.random.seed(3)  # noqa: NPY002
            found = []
            for batch, _ in zip(full_batches(draws(), 2), range(4), strict=False):
                if disturb:
                    np.random.rand(5)  # noqa: NPY002 - the net draws, too
                found += batch[0].numpy().ravel().tolist()
            return found

        assert batches(disturb=True) == batches(disturb=False)
        assert len(set(batches(disturb=False))) == 8

    def test_a_dataset_with_places(self) -> None:
        class Places(paddle.io.Dataset):  # type: ignore[misc, unused-ignore]
            def __getitem__(self, place: int) -> Any:
                return np.array([place])

            def __len__(self) -> int:
                return 5

        batches = open_batches(Places(), 2, 0)
        assert [batch.numpy().ravel().tolist() for batch in batches(0)] == [[0, 1], [2, 3]]

    def test_as_tensors_leaves_text_alone(self) -> None:
        assert as_tensors(["a", b"b", None]) == ["a", b"b", None]
