# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""PaddleRec's contract, both ways: its folders with our trainer, our folder with its loop."""

from __future__ import annotations

import re
from pathlib import Path

from support import MIND, ROOT, generic_folder, mind_folder, python

# what PaddleRec's trainer does with a folder, said again in a few lines
LOOP = """
import importlib, os, sys


class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "paddlerec_milvus":
            raise ImportError("not for a model folder")


sys.meta_path.insert(0, Refuse())
import paddle
import yaml


def flatten(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


folder = os.environ["FOLDER"]
sys.path.append(folder)
everything = yaml.safe_load(open(os.path.join(folder, "config.yaml")))
config = {}
for section in ("workspace", "runner", "hyper_parameters"):
    config.update(flatten(everything.get(section) or {}, section + "."))
config["config_abs_dir"] = folder
paddle.seed(config["runner.seed"])
model_class = importlib.import_module("dygraph_model").DygraphModel()
dy_model = model_class.create_model(config)
optimizer = model_class.create_optimizer(dy_model, config)


def loader_of(kind, batch_size):
    data_dir = os.path.join(folder, config[f"runner.{kind}_data_dir"])
    files = [os.path.join(data_dir, name) for name in os.listdir(data_dir)]
    name = "train" if kind == "train" else "infer"
    reader = importlib.import_module(config[f"runner.{name}_reader_path"])
    dataset = reader.RecDataset(files, config=config)
    return paddle.io.DataLoader(dataset, batch_size=batch_size, drop_last=True)


dy_model.train()
loader = loader_of("train", config["runner.train_batch_size"])
for epoch in range(config["runner.epochs"]):
    metric_list, names = model_class.create_metrics()
    batches = 0
    for batch_id, batch in enumerate(loader()):
        optimizer.clear_grad()
        loss, metric_list, printed = model_class.train_forward(
            dy_model, metric_list, batch, config
        )
        loss.backward()
        optimizer.step()
        batches += 1
    print("epoch", epoch, batches, *[f"{k}:{float(v)}" for k, v in printed.items()])
saved = os.path.join(folder, "saved")
paddle.save(dy_model.state_dict(), saved + "/rec.pdparams")
paddle.save(optimizer.state_dict(), saved + "/rec.pdopt")
dy_model.set_state_dict(paddle.load(saved + "/rec.pdparams"))
dy_model.eval()
for batch in loader_of("test", 2):
    vectors, weights = model_class.infer_forward(dy_model, None, batch, config)
    shapes = [list(x.shape) for x in (vectors, batch[2], dy_model.item_emb.weight)]
    print("infer", *shapes)
"""


def test_our_mind_in_a_loop_as_paddlerecs(tmp_path: Path) -> None:
    folder = mind_folder(tmp_path / "mind").parent
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "part-0").write_text(
        "user_id:1 target_item:0 hist_item:1 hist_item:2 eval_item:3\n"
        "user_id:2 target_item:0 hist_item:4 eval_item:5 eval_item:6 eval_item:7\n"
    )
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(
        re.sub("test_data_dir: .*", f"test_data_dir: {tmp_path / 'test'}", text)
    )
    done = python("-c", LOOP, cwd=tmp_path, FOLDER=str(folder))
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    epochs = [line for line in lines if line[0] == "epoch"]
    assert [line[1:3] for line in epochs] == [[str(epoch), "10"] for epoch in range(4)]
    losses = [float(line[3].removeprefix("loss:")) for line in epochs]
    assert losses[-1] < losses[0]
    assert lines[-1] == ["infer", "[2,", "4,", "8]", "[2,", "1,", "3]", "[41,", "8]"]


def test_paddlerecs_folder_as_it_is(tmp_path: Path) -> None:
    file = generic_folder(tmp_path / "rank" / "ours")
    before = {p: p.read_bytes() for p in file.parent.rglob("*") if p.is_file()}
    script = ["-u", str(ROOT / "tools" / "trainer.py"), "-m", "config.yaml"]
    done = python(*script, "-o", "runner.epochs=2", cwd=file.parent, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    line = re.compile(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - INFO - epoch: 0, batch_id: 2, auc:\d\.\d{6}, "
        r"loss:\d+\.\d+, avg_reader_cost: .* ips: \d+\.\d+ ins/s"
    )
    assert len([x for x in done.stderr.splitlines() if line.fullmatch(x)]) == 1
    assert re.search(r"epoch: 1 done, auc:\S+ loss:\S+ epoch time: \d+\.\d\d s", done.stderr)
    for epoch in "01":
        for part in ("rec.pdparams", "rec.pdopt"):
            assert (file.parent / "out" / epoch / part).is_file()
    assert {p: p.read_bytes() for p in before} == before


def test_our_mind_from_its_own_folder_and_from_the_root(tmp_path: Path) -> None:
    log = mind_folder(tmp_path / "mind").parent.parent / "log"
    options = ["runner.epochs=1", "runner.batches_per_epoch=2", f"runner.train_data_dir={log}"]
    options += ["hyper_parameters.item_count=41", "hyper_parameters.neg_samples=16"]
    options += ["runner.valid_data_dir=", "runner.patience=0"]
    for name, cwd, given in (("a", MIND, "config.yaml"), ("b", ROOT, "mind/config.yaml")):
        script = [str(ROOT / "tools" / "trainer.py"), "-m", given, "-o", *options]
        script += [f"runner.model_save_path={tmp_path / name}"]
        done = python(*script, cwd=cwd, PYTHONPATH=str(ROOT))
        assert done.returncode == 0, done.stderr
    first, second = ((tmp_path / name / "0" / "rec.pdparams").read_bytes() for name in "ab")
    assert first == second


def test_help_teaches(tmp_path: Path) -> None:
    script = [str(ROOT / "tools" / "trainer.py"), "--help"]
    done = python(*script, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0
    for words in ("mind/config.yaml", "--resume", "--data", "runner.epochs=3", "rec.pdparams"):
        assert words in done.stdout
