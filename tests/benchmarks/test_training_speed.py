# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""benchmarks/training_speed.py: what it reads from logs, and how it judges by the bars."""

from __future__ import annotations

from typing import Any

import pytest
import training_speed
from peers.runs import MODEL, Contender, options, parse, peer
from support import ROOT, write_log
from training_speed import BEST, OURS, PADDLEREC, TRAINER, TWO, bars, contenders, tables

LINE = (
    "2026-01-01 00:00:00,000 - INFO - epoch: 0, batch_id: {}, loss:4.9,{} avg_reader_cost: {} sec, "
)
LINE += "avg_batch_cost: {} sec, avg_samples: 128.00000, ips: 845.65026 ins/s\n"


def test_parses_both_trainers_lines_without_the_burn_in():
    costs = [("0.5", "9.0"), ("0.1", "1.0"), ("0.01000", "0.25000"), ("0.03000", "0.75000")]
    for space in ("", " "):  # PaddleRec has one more
        text = "".join(LINE.format(10 * n, space, *cost) for n, cost in enumerate(costs))
        found = parse(text + "epoch: 0 done, epoch time: 14.11 s\n", batch=128)
        assert found == {"step": 0.5, "reader": pytest.approx(0.02), "rate": 256.0}


def test_too_few_lines_end_with_the_log():
    with pytest.raises(SystemExit, match=r"too few log lines.*\nerror: no such folder"):
        parse("error: no such folder", batch=128)


def run_of(rate: float, peak: float = 1000.0, batch: int = 128) -> dict[str, float]:
    return {"rate": rate, "step": batch / rate, "reader": 0.0, "peak_mb": peak}


def contender(title: str, batch: int, negatives: int, *runs: dict[str, float]) -> Contender:
    return Contender(title, [], batch, negatives, {}, {}, 1.0, list(runs))


def test_bars_compare_medians():
    measured = [
        contender(PADDLEREC, 128, 128, run_of(100, 1000), run_of(110, 900), run_of(90, 1100)),
        contender(OURS, 128, 128, run_of(2100, 500), run_of(2000, 600), run_of(9000, 700)),
        contender(OURS, 1024, 1280, run_of(1000)),
        contender(TWO, 2048, 1280, run_of(1700)),
        contender(TWO, 1024, 1280, run_of(1500)),
    ]
    checks = {what: (value, met) for what, value, _, met in bars(measured, {})}
    assert checks == {
        "samples/s, ours / PaddleRec, batch 128, 128 negatives": ("21.00", True),
        "peak memory, ours / PaddleRec, batch 128, 128 negatives": ("0.60", True),
        "samples/s, two processes / one, the same batch a process": ("1.70", True),
        "samples/s, two processes / one, the same total batch": ("1.50", False),
    }
    text = tables(measured, list(bars(measured, {})), "github")
    assert text.count("NO") == 1


def test_reading_is_compared_with_the_step_of_its_batch():
    # steps of 128 / 1280 = 0.1 s, 256 / 1280 = 0.2 s, 1024 / 1280 = 0.8 s
    measured = [contender(OURS, b, n, run_of(1280, batch=b)) for b, n in training_speed.READ]
    alone = {"128": 0.001, "256": 0.02, "1024": 0.008}
    reading: dict[str, Any] = {"seconds_a_batch": alone, "start": 31.0, "peak_mb": 900.0}
    found = [(value, met) for _, value, _, met in bars(measured, reading)]
    assert found == [
        ("1.00 %", True),
        ("10.00 %", False),
        ("1.00 %", True),
        ("31.00 s", False),
        ("0.90 GB", True),
    ]


def test_each_way_to_train_is_listed_once_and_states_the_network():
    listed = contenders(ROOT, ROOT, training_speed.PARTS)
    assert len({each.key for each in listed}) == len(listed)
    known = {each.title: each.hyper for each in listed}
    assert known[OURS]["attention"] == "hard"
    assert known[BEST]["attention"] == "max"
    assert "temperature" not in known[PADDLEREC]


@pytest.mark.parametrize("peer_name", ["", "train_torch.py"])
def test_a_run_on_a_small_log(tmp_path, peer_name):
    if peer_name:
        pytest.importorskip("torch")
    command = peer(peer_name) if peer_name else [*TRAINER, *MODEL]
    runner = {"train_data_dir": write_log(tmp_path / "log"), "valid_data_dir": None, "patience": 0}
    hyper = {**training_speed.SETTINGS["network"], "item_count": 41}
    one = Contender("one", command, 32, 16, hyper, runner, rate=1.0)
    one.run(tmp_path, 1, 1)
    assert one.runs[0]["rate"] == pytest.approx(32 / one.median("step"))
    assert one.median("peak_mb") > 50


def test_options_give_nothing_for_none():
    assert options("runner", {"valid_data_dir": None, "epochs": 1}) == [
        "runner.valid_data_dir=",
        "runner.epochs=1",
    ]
