# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A zoo with small copies of our folders, their data, and checks of one of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import yaml
from support import MIND, mind_folder, write_log

from paddlerec_milvus.contributing.check_results import Check, CheckResult
from paddlerec_milvus.contributing.checks import CHECKS, check_folder


def write_test_users(folder: Path, users: int = 12) -> Path:
    """Walks as in ``support.write_log``: one to five clicks, then two or three truths."""
    lines = []
    for user in range(users):
        walk = [1 + user % 4 * 10 + (user + step) % 10 for step in range(8)]
        cut = 1 + user % 5
        slots = [f"hist_item:{item}" for item in walk[:cut]]
        slots += [f"eval_item:{item}" for item in walk[cut : cut + 2 + user % 2]]
        lines.append(f"user_id:{1000 + user} target_item:0 {' '.join(slots)}\n")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "part-0").write_text("".join(lines))
    return folder


def mind_zoo(root: Path) -> Path:
    """``root/models/recall/mind``, MIND at 40 items with data beside it; returns its yaml."""
    file = mind_folder(
        root / "models" / "recall" / "mind",
        **{
            "optimizer": {
                "class": "Adam",
                "learning_rate": 0.02,
                "schedule": "cosine",
                "warmup": 0.0,
            }
        },
    )
    shutil.rmtree(file.parent.parent / "log")
    write_log(root / "data" / "train")
    write_test_users(root / "data" / "test")
    sections = yaml.safe_load(file.read_text())
    for name, suffix in (("config.yaml", ""), ("config_bigdata.yaml", "_all")):
        sections["runner"] |= {
            "train_data_dir": "../../../data/train",
            "test_data_dir": "../../../data/test",
            "model_save_path": f"output_model_mind{suffix}",
            "infer_load_path": f"output_model_mind{suffix}",
        }
        sections["milvus"]["collection"] = f"mind_items{suffix}"
        (file.parent / name).write_text(yaml.safe_dump(sections))
    return file


def real_zoo(root: Path, model: str = "youtube_dnn") -> Path:
    """``root/models`` with MIND's folder and that of ``model`` as they are, links and all."""
    for name in ("mind", model):
        shutil.copytree(
            MIND.parent / name,
            root / "models" / "recall" / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("output*", "__pycache__", "milvus*"),
        )
    return root / "models"


SMALL = [
    *("hyper_parameters.item_count=41", "hyper_parameters.embedding_dim=8"),
    *("hyper_parameters.neg_samples=16", "hyper_parameters.maxlen=5"),
    *("hyper_parameters.optimizer.learning_rate=0.02", "runner.train_batch_size=32"),
]


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text, f"{file.name} no longer holds {before!r}"
    file.write_text(text.replace(before, after))


def needed(names: set[str]) -> Iterator[Check]:
    """The checks of these names and those that they need."""
    for check in reversed(CHECKS):
        if check.name in names:
            names = names | {check.needs}
    yield from (check for check in CHECKS if check.name in names)


def checked(
    yaml_file: Path, place: Path, *names: str, options: list[str] | None = None
) -> dict[str, CheckResult]:
    """The results by their names; of all checks, or of ``names`` and what they need."""
    place.mkdir()
    checks = list(needed(set(names))) if names else CHECKS
    results = check_folder(yaml_file, options or [], None, place, 4, checks)
    return {result.name: result for result in results}
