# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the command refuses, and that nothing is written before."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from batch_model import SmallModel

from paddlerec_milvus.batch.cli import main as batch
from paddlerec_milvus.config import load_settings
from paddlerec_milvus.retrieval.milvus import retriever_from_settings


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert batch(list(arguments)) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    return message


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--share", "9/8"], "--share 9/8: no such share"),
        (["--part-users", "0"], "--part-users 0: at least 1"),
        (["--top_k", "0"], "top_n: 0 neighbours"),
        (["--histories", "away.csv"], "away.csv: no such file"),
        (["--best", "--epoch", "9"], "--best: and --epoch: give one of them"),
        (["--epoch", "9"], "--epoch '9' is no epoch"),
        (["--rank", "--epoch", "0"], "no ranker was trained for this checkpoint"),
        (["--export", "away"], "name the model, with -m YAML or with --export DIR"),
    ],
)
def test_what_cannot_be(
    flags: list[str],
    problem: str,
    small: SmallModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "lists"
    assert problem in refused(capsys, "--out", str(out), "--exact", *flags, *small.model)
    assert not out.exists()


def test_milvus_is_away(
    small: SmallModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = ["milvus.uri=http://127.0.0.1:1", "milvus.timeout=1"]
    message = refused(capsys, "--out", str(tmp_path / "lists"), *small.model, *away)
    assert "refuses connections: is it running?" in message
    assert small.lists(tmp_path / "lists_exact").height == 600


def test_another_model_in_milvus_gives_no_list(
    small: SmallModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lite = f"milvus.uri={tmp_path / 'milvus.db'}"
    one = tmp_path / "one.csv"
    one.write_text("user,items\n7,5\n")
    usual = ["--histories", str(one), "--top_k", "5"]
    assert batch([*usual, "--epoch", "0", "--out", str(tmp_path / "a"), *small.model, lite]) == 0
    message = refused(capsys, *usual, "--out", str(tmp_path / "b"), *small.model, lite)
    assert "holds the vectors of mind, epoch 0" in message
    assert "no list is made of another model" in message
    assert not list(tmp_path.glob("b/part-*"))
    settings = load_settings("mind/config.yaml", [lite])
    with retriever_from_settings(settings) as retriever:
        serving = retriever.versions.serving()
        assert serving is not None
        assert serving.properties["epoch"] == "0"


@pytest.mark.slow
def test_an_export_is_refused_where_it_does_not_fit(
    small: SmallModel, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--exact", "--out", str(tmp_path / "lists"), "--export", str(exported)]
    assert "has no histories: give --histories FILE" in refused(capsys, *out)
    other = shutil.copytree(small.data, tmp_path / "other")
    with next((other / "train").iterdir()).open("a") as lines:
        lines.write("601,1,1\n")
    assert "is other data (fingerprint" in refused(capsys, *out, "--data", str(other))
    assert "holds one epoch" in refused(capsys, *out, "--data", str(small.data), "--best")
    damaged = shutil.copytree(exported, tmp_path / "damaged")
    (damaged / "item_vectors.npy").unlink()
    out[-1] = str(damaged)
    assert "item_vectors.npy: is missing" in refused(capsys, *out, "--data", str(small.data))


def test_another_tower_of_the_same_parameters_does_not_go_on(
    small: SmallModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = replace(small, checkpoints=shutil.copytree(small.checkpoints, tmp_path / "out"))
    for record in own.checkpoints.glob("*/rec.json"):
        record.unlink()  # as PaddleRec's; else the tower itself would be refused
    out = tmp_path / "lists"
    own.lists(out)
    flags = ["--exact", "--top_k", "20", "--part-users", "100", "--out", str(out), *own.model]
    assert "tower 'hyper_parameters " in refused(capsys, *flags, "hyper_parameters.capsual.iters=1")
    assert batch(flags) == 0
