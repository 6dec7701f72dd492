# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""tools/infer.py on ranking, match and multitask folders: their own metrics, over all rows."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import numpy as np
import paddle
import pytest
from scipy.stats import rankdata
from support import generic_folder, write_log, write_yaml

from paddlerec_milvus.config import load_settings
from paddlerec_milvus.evaluation.cli import main as infer
from paddlerec_milvus.forward import ForwardModel

MODEL = """
import paddle


class Net(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.scale = self.create_parameter([1])
        self.drop = paddle.nn.Dropout(0.9)

    def forward(self, score):
        return paddle.nn.functional.sigmoid(self.drop(score) * self.scale)


class DygraphModel:
    def create_model(self, config):
        return Net()

    def create_metrics(self):
        return [paddle.metric.Auc("ROC") for _ in range(2)], ["auc_click", "auc_buy"]

    def infer_forward(self, dy_model, metrics_list, batch_data, config):
        score, *labels = batch_data
        guess = dy_model(score)
        for metric, label in zip(metrics_list, labels):
            metric.update(preds=paddle.concat([1 - guess, guess], 1), labels=label)
        return metrics_list, {"sim": guess, "logloss": guess.mean()}
"""

READER = """
import numpy as np
from paddle.io import IterableDataset


class RecDataset(IterableDataset):
    def __init__(self, file_list, config):
        super().__init__()
        self.file_list = file_list

    def __iter__(self):
        for name in self.file_list:
            with open(name) as lines:
                for line in lines:
                    score, click, buy = line.split()
                    yield [np.array([score], "float32"), np.array([int(click)]),
                           np.array([int(buy)])]
"""

BY_NUMBER = """
import numpy as np
from paddle.io import Dataset


class RecDataset(Dataset):
    def __init__(self, file_list, config):
        self.rows = np.loadtxt(file_list[0], ndmin=2)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        return [self.rows[row, :1].astype("float32"), *self.rows[row, 1:, None].astype("int64")]
"""

ROWS = np.array(
    [
        *([0.9, 1, 0], [0.8, 0, 1], [0.7, 1, 1], [0.3, 0, 0], [0.2, 1, 0]),
        *([-0.1, 0, 1], [-0.3, 0, 0], [-0.4, 1, 0], [1.5, 0, 0], [-2.0, 1, 1]),
    ]
)


def folder_of(folder: Path, model: str = MODEL, reader: str = READER, rows=ROWS, **runner) -> Path:
    """A folder with two tasks and checkpoints of two epochs, 1 in the opposite order of 0."""
    (folder / "test").mkdir(parents=True)
    np.savetxt(folder / "test" / "part-0", rows, fmt=("%.2f", "%d", "%d"))
    (folder / "dygraph_model.py").write_text(model)
    (folder / "reader.py").write_text(reader)
    for epoch, scale in enumerate((1.0, -1.0)):
        weights = {"scale": paddle.full([1], scale)}
        paddle.save(weights, str(folder / "out" / str(epoch) / "rec.pdparams"))
    runner = {
        "test_data_dir": "test",
        "infer_load_path": "out",
        "infer_batch_size": 4,
        "infer_end_epoch": 2,
        "print_interval": 2,
        **runner,
    }
    return write_yaml(folder / "config.yaml", {"runner": runner})


def auc(scores, labels) -> float:
    """The share of pairs of a positive and a negative in the right order, equals count half."""
    positive = labels == 1
    ranks, n = rankdata(scores)[positive], positive.sum()
    return (ranks.sum() - n * (n + 1) / 2) / (n * (len(labels) - n))


def fails(capsys, file: Path, *flags: str) -> str:
    assert infer(["-m", str(file), *flags]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    return message


@pytest.mark.parametrize("reader", [READER, BY_NUMBER])
def test_all_rows_count_and_epochs_start_anew(tmp_path, capsys, caplog, reader):
    caplog.set_level(logging.INFO)
    file, out = folder_of(tmp_path / "two_tasks", reader=reader), tmp_path / "report.json"
    assert infer(["-m", str(file), "--report", str(out)]) == 0
    report = json.loads(out.read_text())
    click, buy = (auc(ROWS[:, 0], ROWS[:, column]) for column in (1, 2))
    assert click != pytest.approx(auc(ROWS[:8, 0], ROWS[:8, 1]))  # batches of 4, and 2 rows more
    expected = {
        "0": {"auc_click": click, "auc_buy": buy},
        "1": {"auc_click": 1 - click, "auc_buy": 1 - buy},
    }
    for epoch, metrics in expected.items():
        assert report["epochs"][epoch]["metrics"] == pytest.approx(metrics)
        assert report["epochs"][epoch]["rows"] == 10
    mean = (1 / (1 + np.exp(ROWS[:, 0]))).mean()
    assert report["printed"] == pytest.approx({"sim": mean, "logloss": mean}, abs=1e-6)
    assert report["metrics"] == report["epochs"]["1"]["metrics"]
    assert report["epoch"] == 1
    assert report["settings"]["runner"]["infer_batch_size"] == 4

    # PaddleRec's shape
    values = rf"auc_click: {click:.6f},auc_buy: {buy:.6f},sim:\d\.\d+,logloss:\d\.\d+,"
    assert re.search(rf"epoch: 0 done, {values} epoch time: \d+\.\d\d s", caplog.text)
    costs = r"avg_reader_cost: \S+ sec, avg_batch_cost: \S+ sec, avg_samples: \S+, ips: \S+ ins/s"
    batches = re.findall(rf"epoch: (\d), batch_id: (\d), auc_click[^/]*? {costs}", caplog.text)
    assert batches == [("0", "0"), ("0", "2"), ("1", "0"), ("1", "2")]
    header, _, first, second = capsys.readouterr().out.splitlines()[:4]
    assert header.split()[:2] == ["auc_click", "auc_buy"]
    assert first.split()[:4] == ["TWO_TASKS,", "epoch", "0", f"{click:.6f}"]
    assert second.split()[-1] == "10"


def test_labels_of_one_class_are_said(tmp_path, capsys):
    rows = ROWS * [1, 1, 0]
    assert infer(["-m", str(folder_of(tmp_path / "one", rows=rows, infer_end_epoch=1))]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning:" in line]
    assert len(warnings) == 1
    assert "epoch 0: auc_buy is 0" in warnings[0]
    assert "one class" in warnings[0]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["-top_n", "0"], "-top_n"),
        (["--exact", "--baselines"], "--exact, --baselines"),
        (["--best"], "--best"),
        (["--lists", "lists.jsonl"], "--lists"),
        (["-o", "runner.seed=1", "index.type=FLAT", "milvus.db_name=x"], "type, milvus.db_name"),
    ],
)
def test_options_of_lists_are_refused(tmp_path, capsys, flags, named):
    message = fails(capsys, folder_of(tmp_path / "rank"), *flags)
    assert f"{tmp_path / 'rank'}: has no item vectors" in message
    assert message.endswith(named)


def test_a_prepared_click_log_is_refused(tmp_path, capsys):
    write_log(tmp_path / "log" / "train")
    message = fails(capsys, generic_folder(tmp_path / "rank"), "--data", str(tmp_path / "log"))
    assert "reads no item_count" in message
    assert "runner.test_data_dir" in message


def test_what_cannot_be_evaluated_says_why(tmp_path, capsys):
    nothing = MODEL.replace('"auc_click", "auc_buy"', "").replace("2)]", "0)]")
    nothing = nothing.replace('{"sim": guess, "logloss": guess.mean()}', "None")
    vectors = MODEL.replace("return metrics_list, {", "return guess, {")
    whole = MODEL.replace("dy_model(score)", "dy_model(score.reshape([4, 1]))")
    for name, model, said in (
        ("nothing", nothing, "nothing to evaluate by: create_metrics names no metric"),
        ("vectors", vectors, "a recall model has DygraphModel.item_vectors or a layer item_emb"),
        ("whole", whole, "the last batch has 2 rows"),
        ("without", MODEL.replace("infer_forward", "predict"), "has no infer_forward"),
    ):
        assert said in fails(capsys, folder_of(tmp_path / name, model))


def test_rows_that_cannot_be_read_are_said(tmp_path, capsys):
    file = folder_of(tmp_path / "rank")
    with (tmp_path / "rank" / "test" / "part-0").open("a") as lines:
        lines.write("0.5 yes 0\n")
    message = fails(capsys, file)
    assert "the reader reader of rank fails in the batch after row 8: ValueError" in message
    (tmp_path / "rank" / "test" / "part-0").write_text("")
    assert "test: the reader reader gives no row of it" in fails(capsys, file)


def test_what_a_folder_does_decides_not_its_name(tmp_path):
    table = "        self.item_emb = paddle.nn.Embedding(9, 2)\n        self.scale"
    ranking = MODEL.replace("        self.scale", table, 1)
    recall = ranking.replace(
        "create_metrics(self):", "create_metrics(self):\n        return [], []"
    )
    for name, model, searched in (("recall", ranking, False), ("rank", recall, True)):
        settings = load_settings(folder_of(tmp_path / name, model))
        assert ForwardModel(settings).searched is searched
    assert ForwardModel(load_settings("mind/config.yaml")).searched
