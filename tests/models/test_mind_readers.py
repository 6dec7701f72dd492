# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""MIND's readers against brute force over the same clicks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from small_mind import read_log


def epoch_of(dataset: Any, batch_size: int = 4) -> list[tuple[tuple[int, ...], int, int]]:
    """(history, target, length) of each sample of one epoch, in order."""
    samples = []
    for history, target, length in dataset.iter_batches(batch_size):
        assert history.dtype == target.dtype == length.dtype == np.int64
        assert history.shape[1:] == (3,)
        assert target.shape == length.shape == (len(history), 1)
        samples += [
            (tuple(h), int(t), int(n))
            for h, (t,), (n,) in zip(history.tolist(), target, length, strict=True)
        ]
    return samples


# user 7's lines are out of time order and in two files; items of equal time keep the file's order
LOG = ["7,5,30\n7,6,10\n8,1,1\n9,20,1\n9,21,2\n9,22,3\n9,23,3\n9,24,5\n", "7,7,20\n8,2,2\n"]
CLICKS = {7: [6, 7, 5], 8: [1, 2], 9: [20, 21, 22, 23, 24]}


def brute_force(clicks: dict[int, list[int]], maxlen: int, first: int = 1) -> list[Any]:
    samples = []
    for items in clicks.values():
        for position in range(first, len(items)):
            past = items[:position][-maxlen:]
            padded = (*past, *[0] * (maxlen - len(past)))
            samples.append((padded, items[position], len(past)))
    return samples


class TestTrainReader:
    @pytest.mark.parametrize("batch_size", [1, 3, 100])
    @pytest.mark.parametrize("min_history", [1, 2, 4])
    def test_every_position_exactly_once(
        self, tmp_path: Path, batch_size: int, min_history: int
    ) -> None:
        config = {"hyper_parameters.min_history": min_history}
        dataset = read_log(*LOG, folder=tmp_path / "log", **config)
        expected = sorted(brute_force(CLICKS, 3, min_history))
        for _ in range(2):
            assert sorted(epoch_of(dataset, batch_size)) == expected

    def test_a_large_log_by_brute_force(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        clicks = {u: rng.integers(1, 100, rng.integers(1, 9)).tolist() for u in range(60)}
        lines = [f"{u},{i},{t}\n" for u, items in clicks.items() for t, i in enumerate(items)]
        rng.shuffle(lines)
        dataset = read_log("".join(lines), folder=tmp_path / "log")
        assert sorted(epoch_of(dataset)) == sorted(brute_force(clicks, 3))

    def test_order(self, tmp_path: Path) -> None:
        first, same = (read_log(*LOG, folder=tmp_path / "log") for _ in range(2))
        epochs = [epoch_of(first) for _ in range(3)]
        assert epochs[0] != epochs[1] != epochs[2]
        assert [epoch_of(same) for _ in range(3)] == epochs
        same.set_epoch(1)
        assert epoch_of(same) == epochs[1]
        other = read_log(*LOG, folder=tmp_path / "log", **{"runner.seed": 2})
        assert epoch_of(other) != epochs[0]

    def test_batches_per_epoch_caps(self, tmp_path: Path) -> None:
        whole = epoch_of(read_log(*LOG, folder=tmp_path / "log"), 2)
        capped = read_log(*LOG, folder=tmp_path / "log", **{"runner.batches_per_epoch": 3})
        assert epoch_of(capped, 2) == whole[:6]

    @pytest.mark.parametrize("batches", [2, 4, 5, 8])  # 7 samples: 8 to 32 wanted
    def test_batches_per_epoch_wraps(self, tmp_path: Path, batches: int) -> None:
        config = {"runner.batches_per_epoch": batches}
        drawn = epoch_of(read_log(*LOG, folder=tmp_path / "log", **config), 4)
        assert len(drawn) == 4 * batches
        times = [sum(x == sample for x in drawn) for sample in brute_force(CLICKS, 3)]
        assert max(times) - min(times) <= 1  # each comes again only after all came

    def test_single_samples_are_the_same_stream(self, tmp_path: Path) -> None:
        dataset, single = (read_log(*LOG, folder=tmp_path / "log") for _ in range(2))
        samples = [tuple(x.tolist() for x in sample) for sample in single]
        assert [(tuple(h), t[0], n[0]) for h, t, n in samples] == epoch_of(dataset)
        assert [(h, t, n) for h, (t,), (n,) in samples] != [  # and it moves on, too
            (h.tolist(), int(t[0]), int(n[0])) for h, t, n in single
        ]

    @pytest.mark.parametrize("workers", [1, 2])
    def test_workers_share_the_samples(self, tmp_path: Path, workers: int) -> None:
        dataset = read_log(*LOG, folder=tmp_path / "log")
        loader = paddle.io.DataLoader(dataset, batch_size=4, num_workers=workers)
        drawn = [
            (tuple(h), t[0], n[0])
            for batch in loader
            for h, t, n in zip(*(x.numpy().tolist() for x in batch), strict=True)
        ]
        assert sorted(drawn) == sorted(brute_force(CLICKS, 3))

    def test_bom_crlf_and_blank_lines(self, tmp_path: Path) -> None:
        plain = read_log(*LOG, folder=tmp_path / "plain")
        windows = ["\ufeff" + text.replace("\n", "\r\n") + "\r\n" for text in LOG]
        assert epoch_of(read_log(*windows, folder=tmp_path / "windows")) == epoch_of(plain)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("1,100,1\n1,2,2\n", "item_count: 100 allows item ids 1 to 99.*hold 2 to 100"),
            ("1,0,1\n1,2,2\n", "hold 0 to 2"),
            ("1,-4,1\n1,2,2\n", "hold -4 to 2"),
            ("1,2\n1,3\n", "part-0: expected lines uid,item,time, found 2 fields"),
            ("uid,item,time\n1,2,3\n", "part-0: expected lines uid,item,time"),
            ("1,2,3\n1,x,4\n", "part-0: expected lines uid,item,time: .*'x'.*row 1"),
            ("", "part-0: expected lines uid,item,time"),
            ("1,2,3\n2,2,3\n", "no user has more than 1 click"),
        ],
    )
    def test_bad_logs(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(Exception, match=message) as raised:
            read_log(text, folder=tmp_path / "log")
        assert type(raised.value).__name__ == "ModelError"

    @pytest.mark.parametrize("name", ["min_history", "next_n"])
    @pytest.mark.parametrize("value", [0, -1, "2", 1.0])
    def test_bad_numbers_of_clicks(self, tmp_path: Path, name: str, value: Any) -> None:
        with pytest.raises(Exception, match=rf"hyper_parameters\.{name}: .*at least 1"):
            read_log(*LOG, folder=tmp_path / "log", **{f"hyper_parameters.{name}": value})


class TestNextClicks:
    def test_targets_are_the_next_clicks_and_each_comes(self, tmp_path: Path) -> None:
        next_n, epochs = 3, 60
        dataset = read_log(*LOG, folder=tmp_path / "log", **{"hyper_parameters.next_n": next_n})
        drawn = Counter(sample for _ in range(epochs) for sample in epoch_of(dataset))
        for items in CLICKS.values():
            for place in range(1, len(items)):
                past = items[:place][-3:]
                history = past + [0] * (3 - len(past))
                ahead = items[place : place + next_n]
                counts = [drawn.pop((tuple(history), item, len(past)), 0) for item in ahead]
                assert sum(counts) == epochs  # one sample of each position in every epoch
                # 60 draws of one in three: 5 or fewer once in 10,000 times
                assert min(counts) > 5
        assert not drawn

    def test_one_is_the_click_itself(self, tmp_path: Path) -> None:
        plain = read_log(*LOG, folder=tmp_path / "log")
        same = read_log(*LOG, folder=tmp_path / "log", **{"hyper_parameters.next_n": 1})
        assert epoch_of(plain) == epoch_of(same)

    def test_draws_follow_the_seed_and_the_epoch(self, tmp_path: Path) -> None:
        first, same = (
            read_log(*LOG, folder=tmp_path / "log", **{"hyper_parameters.next_n": 3})
            for _ in range(2)
        )
        epochs = [epoch_of(first) for _ in range(3)]
        same.set_epoch(2)
        assert epoch_of(same) == epochs[2] != epochs[0]


class TestShares:
    """What several processes read, each its own part of the same epoch."""

    clicks = {user: list(range(1, 2 + user % 7)) for user in range(40)}  # noqa: RUF012

    def share(self, folder: Path, rank: int, world: int, **config: Any) -> Any:
        lines = [f"{u},{i},{t}\n" for u, items in self.clicks.items() for t, i in enumerate(items)]
        dataset = read_log("".join(lines), folder=folder, **config)
        dataset.set_share(rank, world)
        dataset.set_epoch(3)
        return dataset

    @pytest.mark.parametrize(("world", "batch_size"), [(1, 8), (2, 8), (3, 10), (4, 8), (4, 1000)])
    def test_disjoint_equal_and_all_but_the_rest(
        self, tmp_path: Path, world: int, batch_size: int
    ) -> None:
        shares = [self.share(tmp_path / "log", rank, world) for rank in range(world)]
        read = [epoch_of(share, batch_size) for share in shares]
        everything = Counter(epoch_of(self.share(tmp_path / "log", 0, 1)))
        together = Counter(sample for samples in read for sample in samples)
        assert together <= everything  # none twice
        assert everything.total() - together.total() == everything.total() % world
        assert len({len(samples) for samples in read}) == 1
        for share in shares:
            share.set_epoch(3)
            sizes = [len(batch[0]) for batch in share.iter_batches(batch_size)]
            assert len(sizes) == share.count_batches(batch_size)
            assert set(sizes[:-1]) <= {batch_size // world}

    def test_a_step_is_the_step_of_one_process(self, tmp_path: Path) -> None:
        whole = epoch_of(self.share(tmp_path / "log", 0, 1), 8)
        halves = [epoch_of(self.share(tmp_path / "log", rank, 2), 8) for rank in range(2)]
        for step in range(len(halves[0]) // 4):
            of_step = [x for half in halves for x in half[4 * step : 4 * step + 4]]
            assert sorted(of_step) == sorted(whole[8 * step : 8 * step + 8])

    @pytest.mark.parametrize("world", [1, 2, 3])
    @pytest.mark.parametrize("batches", [2, 50])  # fewer and more than there are
    @pytest.mark.parametrize("batch_size", [6, 7])
    def test_batches_per_epoch(
        self, tmp_path: Path, world: int, batches: int, batch_size: int
    ) -> None:
        for rank in range(world):
            config = {"runner.batches_per_epoch": batches}
            share = self.share(tmp_path / "log", rank, world, **config)
            assert share.count_batches(batch_size) == batches
            sizes = [len(batch[0]) for batch in share.iter_batches(batch_size)]
            assert sizes == [batch_size // world] * batches


def test_profiles_come_fourth(tmp_path: Path) -> None:
    log = tmp_path / "train"
    (tmp_path / "user_features.csv").write_text("user,age,town\n9,2,1\n7,1,0\n")
    config = {"hyper_parameters.user_features": True, "runner.train_data_dir": "train"}
    dataset = read_log(*LOG, folder=log, config_abs_dir=str(tmp_path), **config)
    profile_of = {7: [1, 0], 8: [0, 0], 9: [2, 1]}  # 8 has none
    seen = set()
    for _, target, _, profiles in dataset.iter_batches(3):
        for (item,), profile in zip(target.tolist(), profiles.tolist(), strict=True):
            user = next(user for user, items in CLICKS.items() if item in items[1:])
            assert profile == profile_of[user]
            seen.add(user)
    assert seen == {7, 8, 9}
    assert [len(sample) for sample in dataset] == [4] * 7


class TestInferReader:
    text = (
        "user_id:1 target_item:0 hist_item:1 hist_item:2 hist_item:3 hist_item:4 eval_item:5\n"
        "user_id:2 target_item:0 hist_item:9 eval_item:8 eval_item:7 eval_item:6 eval_item:5 "
        "eval_item:4\n"
        "user_id:3 target_item:0 hist_item:9\n"
    )

    @pytest.mark.parametrize("ending", ["\n", "\r\n"])
    def test_the_last_clicks_and_all_truths(self, tmp_path: Path, ending: str) -> None:
        text = "\ufeff" + self.text.replace("\n", ending)
        dataset = read_log(text, folder=tmp_path / "test", reader="mind_infer_reader")
        samples = [[x.tolist() for x in sample] for sample in dataset]
        assert samples == [
            [[2, 3, 4], [3], [[5, 0, 0, 0, 0]]],
            [[9, 0, 0], [1], [[8, 7, 6, 5, 4]]],  # more truths than maxlen: none is cut
        ]
        assert all(x.dtype == np.int64 for sample in dataset for x in sample)

    def test_a_bad_line_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(Exception, match=r"part-0:4: expected 'user_id:7 .*found 'user_id:1 x'"):
            read_log(self.text + "user_id:1 x\n", folder=tmp_path / "t", reader="mind_infer_reader")
