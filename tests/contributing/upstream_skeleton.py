# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A checkout with as much of PaddleRec's tools as a contributed folder meets, in a few lines.

``tools/trainer.py`` and ``tools/static_trainer.py`` take a folder's steps in PaddleRec's order,
with ``DataLoader(drop_last=True)``, no schedule and no set_epoch; a module of ours is refused.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

COMMON = """
import os
import sys

os.environ["FLAGS_enable_pir_api"] = "0"


class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "paddlerec_milvus":
            raise ImportError("not for a model folder")


sys.meta_path.insert(0, Refuse())
import paddle
from utils.utils_single import create_data_loader, load_yaml


def read(static=False):
    yaml = sys.argv[sys.argv.index("-m") + 1]
    config = load_yaml(yaml)
    config["config_abs_dir"] = os.path.dirname(os.path.abspath(yaml))
    config["yaml_path"] = yaml
    sys.path.append(config["config_abs_dir"])
    paddle.seed(12345)
    paddle.set_device("cpu")
    return config
"""

TRAINER = (
    COMMON
    + """
from utils.save_load import save_model

config = read()
from dygraph_model import DygraphModel

contract = DygraphModel()
model = contract.create_model(config)
optimizer = contract.create_optimizer(model, config)
loader = create_data_loader(config)
for epoch in range(config["runner.epochs"]):
    model.train()
    metrics, names = contract.create_metrics()
    losses = []
    for batch in loader():
        optimizer.clear_grad()
        loss, metrics, printed = contract.train_forward(model, metrics, batch, config)
        loss.backward()
        optimizer.step()
        losses.append(float(printed["loss"]))
    print("epoch", epoch, len(losses), sum(losses) / len(losses))
    save_model(model, optimizer, config["runner.model_save_path"], epoch)
"""
)

STATIC = (
    COMMON
    + """
paddle.enable_static()
config = read()
from static_model import StaticModel

static_model = StaticModel(config)
feeds = static_model.create_feeds()
fetched = static_model.net(feeds)
static_model.create_optimizer()
executor = paddle.static.Executor(paddle.CPUPlace())
executor.run(paddle.static.default_startup_program())
for epoch in range(config["runner.epochs"]):
    losses = []
    for batch in create_data_loader(config)():
        feed = dict(zip([one.name for one in feeds], batch))
        values = executor.run(feed=feed, fetch_list=list(fetched.values()))
        losses.append(float(values[0]))
    print("epoch", epoch, len(losses), sum(losses) / len(losses))
"""
)

UTILS = """
import importlib
import os
import sys

import yaml as reader
from paddle.io import DataLoader


def flat(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def load_yaml(file):
    with open(file) as text:
        return dict(flat(reader.safe_load(text)))


def get_abs_model(file):
    return file


def load_dy_model_class(folder):
    sys.path.append(folder)
    from dygraph_model import DygraphModel

    return DygraphModel()


def create_data_loader(config):
    folder = os.path.join(config["config_abs_dir"], config["runner.train_data_dir"])
    files = [os.path.join(folder, name) for name in os.listdir(folder)]
    module = importlib.import_module(config["runner.train_reader_path"])
    dataset = module.RecDataset(files, config=config)
    return DataLoader(dataset, batch_size=config["runner.train_batch_size"], drop_last=True)
"""

SAVE_LOAD = """
import os

import paddle


def save_model(model, optimizer, folder, epoch):
    os.makedirs(os.path.join(folder, str(epoch)), exist_ok=True)
    paddle.save(model.state_dict(), os.path.join(folder, str(epoch), "rec.pdparams"))


def load_model(folder, model):
    model.set_dict(paddle.load(os.path.join(folder, "rec.pdparams")))


def save_jit_model(model, folder, prefix):
    paddle.jit.save(model, os.path.join(folder, prefix))
"""

LIST = """\
# A list

  |   {task}   | [Other](models/recall/other/) |  -  |  x  |  x  | - | [2019][Other](https://x) |
  |   排序   | [Rank](models/rank/rank/) |  -  |  x  |  x  | - | [2019][Rank](https://x) |
"""
PREPARE = """\
#!/bin/bash
if [ ${model_name} == "dnn" ]; then
    echo "demo data ready"
fi
"""


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    done = subprocess.run(
        ["git", "-C", str(root), *who, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def upstream_checkout(root: Path) -> Path:
    """A committed checkout with tools, lists, test_tipc and a model of somebody's."""
    files = {
        "tools/trainer.py": TRAINER,
        "tools/static_trainer.py": STATIC,
        "tools/utils/utils_single.py": UTILS,
        "tools/utils/save_load.py": SAVE_LOAD,
        "tools/utils/__init__.py": "",
        "test_tipc/prepare.sh": PREPARE,
        "models/recall/other/net.py": "",
        "test_tipc/configs/taken/train_infer_python.txt": "",
        "README_CN.md": LIST.format(task="召回"),
        "README_EN.md": LIST.format(task="Recall"),
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "README.md").symlink_to("README_CN.md")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "as it is upstream")
    return root
