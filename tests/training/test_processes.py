# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Several processes: rows, gradients and results as of one, one writer, none left behind.

The launcher starts real processes here; a spy in the model folder writes down the rows that each
sees, and strikes a process where a test asks for it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from runs import run, write_valid
from support import ROOT, checkpoint_bits, mind_folder, python, write_yaml

from paddlerec_milvus.config import load_settings
from paddlerec_milvus.errors import SettingsError, TrainingError
from paddlerec_milvus.training.batches import open_batches, rows_of
from paddlerec_milvus.training.processes import ALONE, Processes, common_seed, join
from paddlerec_milvus.zoo import ModelFolder

pytestmark = pytest.mark.slow

SPY = """

import json, os
import numpy as np

_forward, _steps = DygraphModel.train_forward, [0]


def _watched(self, dy_model, metrics_list, batch_data, config):
    rank = os.environ.get("PADDLE_TRAINER_ID", "0")
    _steps[0] += 1
    rows = zip(*(np.asarray(part).tolist() for part in batch_data))
    with open(f"seen.{rank}", "a") as file:
        print(json.dumps(list(rows)), file=file)
    who, step, number = (os.environ.get("STRIKE") or "none 0 0").split()
    if (rank, str(_steps[0])) == (who, step):
        # a process is killed, Ctrl-C reaches the launcher
        os.kill(os.getpid() if number == "9" else os.getppid(), int(number))
    return _forward(self, dy_model, metrics_list, batch_data, config)


DygraphModel.train_forward = _watched
"""

TABLE_MODEL = """
import paddle


class Net(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.table = paddle.nn.Embedding(40, 4, sparse=True)
        self.out = paddle.nn.Linear(4, 1)
        self.seldom = paddle.nn.Linear(4, 1)

    def forward(self, ids):
        vectors = self.table(ids).mean(axis=1)
        result, large = self.out(vectors), (ids.max(axis=1, keepdim=True) > 38).astype("float32")
        # a part that only some batches use, and of those only some processes
        return result + self.seldom(vectors) * large if bool(large.any()) else result


class DygraphModel:
    def create_model(self, config):
        return Net()

    def create_optimizer(self, dy_model, config):
        return paddle.optimizer.Adam(0.05, parameters=dy_model.parameters(), lazy_mode=True)

    def create_metrics(self):
        return [], []

    def train_forward(self, dy_model, metrics_list, batch_data, config):
        ids, wanted = batch_data
        loss = ((dy_model(ids) - wanted) ** 2).mean()
        return loss, metrics_list, {"loss": loss}
"""

TABLE_READER = """
import numpy as np
from paddle.io import IterableDataset


class RecDataset(IterableDataset):
    def __init__(self, file_list, config):
        super().__init__()
        self.ids = np.loadtxt(file_list[0], dtype=np.int64)

    def __iter__(self):
        for number, ids in enumerate(self.ids):
            yield [ids, np.array([np.sin(number)], dtype="float32")]
"""


def table_folder(folder: Path) -> Path:
    """A regression on a sparse table.

    In its second batch only the second process has a large id, in the third all look up one row.
    """
    (folder / "data").mkdir(parents=True)
    (folder / "dygraph_model.py").write_text(TABLE_MODEL)
    (folder / "reader.py").write_text(TABLE_READER)
    ids = np.random.default_rng(0).integers(0, 39, [48, 3])
    ids[[13, 25, 44], 0] = 39
    ids[16:24] = 7
    np.savetxt(folder / "data" / "part-0", ids, fmt="%d")
    runner = {
        "train_data_dir": "data",
        "train_reader_path": "reader",
        "train_batch_size": 8,
        "epochs": 2,
        "print_interval": 1,
    }
    return write_yaml(folder / "config.yaml", {"runner": runner})


def launch(
    file: Path, out: Path, *options: str, resume: bool = False, strike: str = ""
) -> subprocess.CompletedProcess[str]:
    """Train with two processes; what each says is in ``out`` beside its number."""
    logs = out.with_name(f"{out.name}_logs")
    starter = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", str(logs)]
    trainer = [str(ROOT / "tools" / "trainer.py"), "-m", str(file), *(["--resume"] * resume)]
    options = (f"runner.model_save_path={out}", *options)
    environment = {"PYTHONPATH": str(ROOT), "STRIKE": strike}
    return python(*starter, *trainer, "-o", *options, cwd=out.parent, **environment)


def said(out: Path, rank: int) -> str:
    """What a process said, without what paddle says."""
    text = (out.with_name(f"{out.name}_logs") / f"workerlog.{rank}").read_text()
    noise = re.compile(r".*(ccache|warnings\.warn|tcp_store\.cc|tcp_utils\.cc).*\n")
    return noise.sub("", text)


def seen(folder: Path, rank: int) -> list[list[Any]]:
    """The rows of each batch that a process saw."""
    return [json.loads(line) for line in (folder / f"seen.{rank}").read_text().splitlines()]


def spied(file: Path) -> Path:
    with (file.parent / "dygraph_model.py").open("a") as source:
        source.write(SPY)
    return file


def assert_close(one: Path, other: Path) -> None:
    """Parameters and the optimizer's state are the same but for the order of sums."""
    for part in ("pdparams", "pdopt"):
        a, b = (paddle.load(str(folder / f"rec.{part}")) for folder in (one, other))
        assert a.keys() == b.keys()
        for name in a:
            if hasattr(a[name], "numpy"):
                np.testing.assert_allclose(a[name].numpy(), b[name].numpy(), atol=2e-4, rtol=2e-4)


def losses(text: str) -> list[float]:
    return [float(value) for value in re.findall(r"loss:([\d.e-]+)", text)]


class TestAsOneProcess:
    """Without random draws in the net two processes do what one does at the same total batch."""

    # Momentum moves all rows in each step, so gradients travel through collectives
    def test_mind(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        # soft: where another interest is as near as the best, rounding would choose between them
        hyper = {"sampler": "all", "attention": "soft"}
        hyper |= {"optimizer.class": "Momentum", "optimizer.learning_rate": 0.05}
        file = spied(mind_folder(tmp_path / "model", **hyper))
        options = ["runner.epochs=2", "runner.train_batch_size=30", "runner.print_interval=1"]
        run(file, tmp_path / "one", *options)
        whole = seen(file.parent, 0)
        (file.parent / "seen.0").unlink()
        fleet = ["runner.use_fleet=True", "runner.use_visual=True"]
        done = launch(file, tmp_path / "two", *options, *fleet)
        assert done.returncode == 0, done.stdout
        assert_close(tmp_path / "one" / "1", tmp_path / "two" / "1")
        # 320 samples: ten batches of 30 and one of 20 in an epoch, half of each to each process
        shares = [seen(file.parent, rank) for rank in (0, 1)]
        assert [len(batch) for batch in shares[0]] == ([15] * 10 + [10]) * 2
        for own, others, batch in zip(*shares, whole, strict=True):
            assert len(own) == len(others)
            assert sorted(own + others) == sorted(batch)
        # one writer, and it speaks for both
        assert said(tmp_path / "two", 1) == ""
        assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["0", "1"]
        assert len(list((file.parent / "visualDL_log" / "train").iterdir())) == 1
        assert "avg_samples: 30.00000" in done.stdout
        alone = losses(" ".join(record.getMessage() for record in caplog.records))
        assert losses(said(tmp_path / "two", 0)) == pytest.approx(alone, rel=1e-4)

    # lazy Adam moves the rows of a batch alone, so the table lies in memory that both see
    def test_a_table_in_shared_memory(self, tmp_path: Path) -> None:
        file = spied(table_folder(tmp_path / "model"))
        run(file, tmp_path / "one")
        whole = seen(file.parent, 0)
        (file.parent / "seen.0").unlink()
        done = launch(file, tmp_path / "two")
        assert done.returncode == 0, done.stdout
        assert_close(tmp_path / "one" / "1", tmp_path / "two" / "1")
        for own, others, batch in zip(*(seen(file.parent, r) for r in (0, 1)), whole, strict=True):
            assert own + others == batch


def test_lost_stopped_and_resumed(tmp_path: Path) -> None:
    """One process killed, then Ctrl-C: each time all end, the last epoch stays, and it goes on."""
    file = spied(mind_folder(tmp_path / "model", dropout=0.2))  # ten batches an epoch
    options = ["runner.epochs=2", f"runner.valid_data_dir={write_valid(tmp_path / 'valid')}"]
    whole, out = tmp_path / "whole", tmp_path / "parts"
    done = launch(file, whole, *options)
    assert done.returncode == 0, done.stdout

    done = launch(file, out, *options, strike="1 14 9")
    assert done.returncode != 0
    last = said(out, 0).splitlines()[-1]
    assert re.fullmatch(
        r"error: training in 2 processes: process 1 \(pid \d+\) ended before its time; .*"
        r"the same command with --resume goes on after the last finished epoch",
        last,
    )
    assert "Traceback" not in done.stdout + said(out, 0)
    assert sorted(path.name for path in out.iterdir()) == ["0", "best"]
    assert checkpoint_bits(out / "0") == checkpoint_bits(whole / "0")

    done = launch(file, out, *options, resume=True, strike="0 4 2")
    assert done.returncode != 0
    for rank in (0, 1):
        assert said(out, rank).splitlines()[-1].startswith("stopped in epoch 1, which several")
    assert sorted(path.name for path in out.iterdir()) == ["0", "best"]

    done = launch(file, out, *options, resume=True)
    assert done.returncode == 0, done.stdout
    assert checkpoint_bits(out / "1") == checkpoint_bits(whole / "1")
    best = [(folder / "best" / "best.json").read_text() for folder in (out, whole)]
    assert best[0] == best[1]


class TestShares:
    def test_rows_of_a_batch(self) -> None:
        batch = [np.arange(6), {"a": paddle.arange(6), "b": np.float32(3)}, list("abcdef"), "text"]
        array, mapping, texts, text = rows_of(batch, slice(2, 4), 6)
        assert array.tolist() == mapping["a"].tolist() == [2, 3]
        assert (mapping["b"], texts, text) == (3, ["c", "d"], "text")

    def test_a_reader_that_draws_from_the_global_generators(self) -> None:
        class Draws:
            def iter_batches(self, size: int) -> Any:
                for rows in (size, size, 5, 1):
                    yield [np.random.rand(rows)]  # noqa: NPY002

        def epoch(rank: int, disturb: int) -> list[list[float]]:
            batches = open_batches(Draws(), 6, 0, Processes(rank, 2), seed=3)(0)
            found = []
            for (batch,) in batches:
                np.random.rand(disturb)  # noqa: NPY002 - the nets of the processes draw unlike
                found.append(batch.tolist())
            return found

        first, second = epoch(0, 1), epoch(1, 4)
        assert [len(batch) for batch in first] == [len(batch) for batch in second] == [3, 3, 2]
        assert len({x for batch in first + second for x in batch}) == 16
        assert epoch(0, 5) == first

    @pytest.mark.parametrize("workers", [0, 1])
    def test_minds_reader(self, tmp_path: Path, workers: int) -> None:
        file = mind_folder(tmp_path / "model")
        settings = load_settings(file, ["runner.train_batch_size=30"])
        folder = ModelFolder(file.parent)
        data = sorted((tmp_path / "log").iterdir())

        def epoch(processes: Processes, workers: int) -> list[list[Any]]:
            reader = folder.reader("mind_reader", data, settings.dotted())
            with folder.active():
                batches = list(open_batches(reader, 30, workers, processes, 3)(1))
            return [
                sorted(zip(*(np.asarray(part).tolist() for part in batch), strict=True))
                for batch in batches
            ]

        shares = [epoch(Processes(rank, 2), workers) for rank in (0, 1)]
        whole = epoch(ALONE, 0)
        if workers:  # a loader drops the last batch, which is short
            whole = whole[:-1]
        assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == whole


class TestJoining:
    def test_a_batch_that_cannot_be_shared(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PADDLE_TRAINERS_NUM", "3")
        settings = load_settings(mind_folder(tmp_path / "model"))
        with pytest.raises(SettingsError, match=r"train_batch_size: 32 .* by 3; set it to 30"):
            join(settings, "cpu")

    def test_one_process_of_the_launcher_is_one_process(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PADDLE_TRAINERS_NUM", "1")
        settings = load_settings(mind_folder(tmp_path / "model"), ["runner.use_fleet=True"])
        assert join(settings, "cpu") is ALONE

    def test_streams(self) -> None:
        seeds = [Processes(rank, 2).seed(12345, epoch) for rank in (0, 1) for epoch in (0, 1)]
        assert len(set(seeds)) == 4
        assert all(0 <= seed < 2**63 for seed in seeds)
        assert common_seed(1, 2) == common_seed(1, 2) != common_seed(2, 1)


def test_who_is_lost_is_named() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    here = join.__globals__["_host"]()
    places = np.array([[here, os.getpid()], [here, ended.pid], [here + 1, ended.pid]])
    expected = rf"in 3 processes: process 1 \(pid {ended.pid}\) ended before its time"
    with (
        pytest.raises(TrainingError, match=expected),
        Processes(0, 3, _places=places).collective(),
    ):
        raise RuntimeError("connection reset")
    with (
        pytest.raises(TrainingError, match=r"does not answer \(TIMEOUT self_rank = 0\); all stop"),
        Processes(0, 2, _places=places[:1]).collective(),
    ):
        raise RuntimeError("[/somewhere/pair.cc:584] TIMEOUT self_rank = 0")
