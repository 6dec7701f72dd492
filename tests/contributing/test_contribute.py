# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``tools/contribute.py``: what it writes trains and is measured without a module of ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from small_folders import SMALL, edit, mind_zoo, real_zoo, write_test_users
from support import python, write_log
from upstream_skeleton import git, upstream_checkout

from paddlerec_milvus.contributing.contribute_cli import main
from paddlerec_milvus.zoo import ModelFolder

TIPC = ("to_static.py", "paddle_infer.py", "train_infer_python.txt")


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    return upstream_checkout(tmp_path / "PaddleRec")


@pytest.fixture
def mind(tmp_path: Path) -> Path:
    """The yaml of a small MIND with users enough for a sample."""
    file = mind_zoo(tmp_path)
    write_test_users(tmp_path / "data" / "test", 70)
    return file


def contribute(file: Path, upstream: Path, *arguments: str) -> int:
    return main(["-m", str(file), "--to", str(upstream), *arguments])


def changed(upstream: Path) -> list[str]:
    lines = git(upstream, "status", "--porcelain", "--untracked-files=all").splitlines()
    return sorted(line[3:] for line in lines)


def test_what_it_writes(mind: Path, upstream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in mind.parent.rglob("*") if path.is_file()}
    assert contribute(mind, upstream) == 0
    folder = upstream / "models" / "recall" / "mind"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    sources = {path.name for path in mind.parent.glob("*.py")}
    added = {"__init__.py", "static_model.py", "infer.py", "config.yaml", "config_bigdata.yaml"}
    added |= {"README.md", "README_en.md"}
    sample = {"data/sample_data/train/part-0.csv", "data/sample_data/test/part-0"}
    assert names == sources | added | sample
    tipc = {f"test_tipc/configs/mind/{name}" for name in TIPC}
    lists = {"README_CN.md", "README_EN.md", "test_tipc/prepare.sh"}
    assert changed(upstream) == sorted(
        {f"models/recall/mind/{name}" for name in names} | tipc | lists
    )
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 200_000
    assert {path: path.read_bytes() for path in before} == before
    sections = yaml.safe_load((folder / "config.yaml").read_text())
    assert set(sections) == {"runner", "hyper_parameters"}
    assert sections["runner"]["train_data_dir"] == "data/sample_data/train"
    assert "valid_data_dir" not in sections["runner"]
    for name in lists - {"test_tipc/prepare.sh"}:
        text = git(upstream, "diff", "-U0", "--", name)
        (row,) = [line for line in text.splitlines() if re.match(r"\+ ", line)]
        assert "[MIND](models/recall/mind/) " in row
        assert "[CIKM 2019][Multi-Interest Network" in row
        assert "(https://arxiv.org/abs/1904.08030)" in row
    chinese = (folder / "README.md").read_text()
    for heading in ("模型简介", "数据准备", "运行环境", "快速开始", "模型组网", "效果复现"):
        assert f"\n## {heading}\n" in chinese
    for text in (chinese, (folder / "README_en.md").read_text()):
        assert "\nPaddlePaddle>=3.0, scipy\n" in text  # item_start.py imports it
    assert "$" not in re.sub(r"```.*?```", "", chinese, flags=re.DOTALL)
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("models/recall/mind/net.py", "contributor.md"))


def test_again_and_under_another_name(mind: Path, upstream: Path) -> None:
    assert contribute(mind, upstream) == 0
    git(upstream, "add", "-A")
    git(upstream, "commit", "-qm", "contributed")
    assert contribute(mind, upstream) == 0
    assert changed(upstream) == []  # the same again
    assert contribute(mind, upstream, "--name", "mind_two") == 0
    assert (
        "output_model_mind_two_all"
        in (upstream / "models" / "recall" / "mind_two" / "config_bigdata.yaml").read_text()
    )
    script = (upstream / "test_tipc" / "prepare.sh").read_text()
    assert [script.count(f'== "{name}"') for name in ("dnn", "mind", "mind_two")] == [1, 1, 1]
    assert script.rstrip().endswith("fi")


def test_inference_without_a_yaml_reads_histories_as_they_are_exported(
    mind: Path, upstream: Path
) -> None:
    edit(mind.parent / "config_bigdata.yaml", "maxlen: 5", "maxlen: 7")  # that of test_tipc
    assert contribute(mind, upstream) == 0
    folder = upstream / "models" / "recall" / "mind"
    files = [folder / "data" / "sample_data" / "test" / "part-0"]
    reader = ModelFolder(folder).reader("mind_infer_reader", files, {"runner.inference": True})
    history, _, _ = next(iter(reader))
    assert history.shape == (7,)


def test_a_reader_that_reads_maxlen_otherwise_is_left_to_a_person(
    mind: Path, upstream: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(mind.parent / "mind_infer_reader.py", '.get("hyper_parameters.maxlen", 20)', ".maxlen")
    assert contribute(mind, upstream) == 0
    line = "mind_infer_reader.py: test_tipc's inference gives it no maxlen; it has to take 5 then"
    assert line in capsys.readouterr().out


def test_what_it_refuses(
    mind: Path, upstream: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: str, to: Path = upstream) -> str:
        before = changed(upstream)
        assert contribute(mind, to, *arguments) == 2
        assert changed(upstream) == before
        return capsys.readouterr().err

    assert "lacks tools/trainer.py" in refused(to=tmp_path / "data")
    assert "lacks tools/trainer.py" in refused(to=tmp_path / "nowhere")
    for name in ("other", "taken"):  # a model of somebody's, and test_tipc files of another task's
        assert f"/{name}: is there, and is not this tool's" in refused("--name", name)
    assert "--name 'Mind': expected lower-case letters" in refused("--name", "Mind")
    readme = (mind.parent / "README.md").read_text()
    (mind.parent / "README.md").write_text(f"{readme}\nTODO: results\n")
    assert "TODO in README.md marks what is still to be written" in refused()
    (mind.parent / "README.md").write_text(readme)
    edit(mind.parent / "config_bigdata.yaml", "maxlen: 5", "maxlen: null")
    assert "hyper_parameters.maxlen: None, expected the length" in refused()
    edit(mind.parent / "config_bigdata.yaml", "maxlen: null", "maxlen: 5")
    edit(upstream / "README_EN.md", "# A list", "# My list")
    assert "not committed: README_EN.md; commit them" in refused()
    git(upstream, "checkout", "-q", ".")
    (upstream / "note.txt").write_text("of no concern")
    wider = refused("-o", "hyper_parameters.maxlen=10", "milvus.token=secret")
    assert "-o hyper_parameters.maxlen milvus.token: settings are written from" in wider
    edit(mind, "item_count: 41", "item_count: 40")
    assert "item_count: 40 in config.yaml, but the sample's data has item ids up to 40" in refused()
    edit(mind, "item_count: 40", "item_count: 41")
    write_test_users(tmp_path / "data" / "test", 5)
    assert "5 users are too few for a sample" in refused()
    edit(upstream / "test_tipc" / "prepare.sh", "\nfi\n", "\nfi\necho done\n")
    git(upstream, "commit", "-qam", "another end")
    write_test_users(tmp_path / "data" / "test", 70)
    assert "does not end with fi" in refused()
    assert git(upstream, "status", "--porcelain").split() == ["??", "note.txt"]


def run_there(folder: Path, *arguments: str) -> list[list[str]]:
    done = python(*arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in (done.stdout + done.stderr).splitlines()]


def contributed(tmp_path: Path, upstream: Path, model: str = "youtube_dnn") -> Path:
    """The folder ``model`` as it is, its links included, from a small log."""
    zoo = real_zoo(tmp_path / "zoo", model)
    options = [f"runner.train_data_dir={write_log(tmp_path / 'train')}"]
    options += [f"runner.test_data_dir={write_test_users(tmp_path / 'test', 64)}"]
    assert contribute(zoo / "recall" / model / "config.yaml", upstream, "-o", *options) == 0
    folder = upstream / "models" / "recall" / model
    for option in SMALL:  # for the time that it takes
        key, _, value = option.rpartition(".")[2].partition("=")
        text = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(re.sub(rf"( {key}:) \S+", rf"\1 {value}", text))
    return folder


@pytest.mark.slow
def test_it_trains_and_is_measured_there(tmp_path: Path, upstream: Path) -> None:
    folder = contributed(tmp_path, upstream)
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    lines = run_there(folder, "../../../tools/trainer.py", "-m", "config.yaml")
    epochs = [line for line in lines if line[0] == "epoch"]
    assert [line[1:3] for line in epochs] == [[str(epoch), "10"] for epoch in range(4)]
    assert float(epochs[-1][3]) < float(epochs[0][3])
    (line,) = [
        x
        for x in run_there(folder, "infer.py", "-m", "config.yaml", "-top_n", "5")
        if "users:" in x
    ]
    values = dict(zip(line[7::2], line[8::2], strict=False))
    assert line[line.index("users:") + 1] == "64,"
    assert 0.3 < float(values["recall@5:"].rstrip(",")) <= 1.0  # of 40 items: 0.125 by chance


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mind", "youtube_dnn", "sasrec"])
def test_it_is_a_static_graph_there(model: str, mind: Path, tmp_path: Path, upstream: Path) -> None:
    if model == "mind":
        assert contribute(mind, upstream) == 0
        folder = upstream / "models" / "recall" / "mind"
    else:
        folder = contributed(tmp_path, upstream, model)
    lines = run_there(folder, "../../../tools/static_trainer.py", "-m", "config.yaml")
    epochs = [line for line in lines if line[0] == "epoch"]
    assert float(epochs[-1][3]) < float(epochs[0][3])
    run_there(folder, "../../../tools/trainer.py", "-m", "config.yaml")
    script = f"../../../test_tipc/configs/{model}/to_static.py"
    options = [f"runner.model_init_path=output_model_{model}/3", "runner.model_save_path=exported"]
    options += ["hyper_parameters.maxlen=5"]  # a number, as in the yaml
    run_there(folder, script, "-m", "config.yaml", "-o", *options)
    assert (folder / "exported" / "tostatic.json").is_file()
