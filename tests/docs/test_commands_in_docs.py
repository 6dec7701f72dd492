# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Commands of README and docs: tutorials run as they stand there, other commands are understood.

The curl lines are run by tests/serving/test_readme.py.
"""

from __future__ import annotations

import argparse
import configparser
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from pages import ENGLISH, blocks_of, chinese, text_of
from support import ROOT

PYTHON = ".venv/bin/python"
TESTED = [
    pytest.param(command, id=f"{page}: {command[:60]}")
    for page in ENGLISH
    for block in blocks_of(page)
    if block.reason is None
    for command in block.commands
]


@pytest.mark.parametrize("page", ENGLISH)
def test_both_languages_have_the_same_commands(page):
    english, other = blocks_of(page), blocks_of(chinese(page))
    assert [block.commands for block in english] == [block.commands for block in other]
    assert [block.reason is None for block in english] == [block.reason is None for block in other]
    for file in (page, chinese(page)):
        commands = r"^ *(make|curl|\.venv/bin/\S+|pip install) .*$"
        in_bash = [line for block in blocks_of(file) for line in block.commands]
        for line in re.finditer(commands, text_of(file), re.MULTILINE):
            assert re.sub(r"\s+#.*", "", line[0].strip()) in in_bash, "a command in another block"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*found in sys.modules")  # another test may have imported it
@pytest.mark.parametrize("command", TESTED)
def test_a_command_is_understood(command, monkeypatch):
    words = shlex.split(command)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", text_of("Makefile"), re.MULTILINE)
    elif words[0] == PYTHON and words[1:4] == ["-m", "pip", "install"]:
        parsed = configparser.ConfigParser()
        parsed.read(ROOT / "setup.cfg")
        extras = re.fullmatch(r"\.\[(.*)\]", words[-1])[1].split(",")
        assert set(extras) <= set(parsed["options.extras_require"])
    elif words[0] == PYTHON:
        assert parses([word for word in words[1:] if word != "-u"], monkeypatch)
    else:
        assert words[0] == "curl"


class UnderstoodError(Exception):
    """The arguments of a command were parsed; it goes no further."""


def parses(words: list[str], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the program takes these words; nothing of it is run after that."""
    parse = argparse.ArgumentParser.parse_args

    def and_stop(parser: argparse.ArgumentParser, *arguments: Any) -> NoReturn:
        parse(parser, *arguments)
        raise UnderstoodError

    module = words[0] == "-m"
    words = words[module:]
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", and_stop)
    monkeypatch.setattr(sys, "argv", words)
    try:
        if module:
            runpy.run_module(words[0], run_name="__main__")
        else:
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
    except UnderstoodError:
        return True
    except SystemExit as end:
        return "--help" in words and end.code == 0
    return False


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a new user has, with the packages of this environment."""
    leave_out = shutil.ignore_patterns("output_*", "__pycache__", "*.db*", "sample", "results")
    for name in ("paddlerec_milvus", "models", "tools", "datasets/amazonbook", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=leave_out)
    for file in tmp_path.glob("models/*/*/config*.yaml"):  # nothing waits for a busy machine
        file.write_text(file.read_text("utf-8").replace("timeout: 30.0 ", "timeout: 900.0 "))
    for name in ("Makefile", "setup.cfg", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / PYTHON).write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / PYTHON).chmod(0o755)
    for mark in ("installed", "installed-serve", "installed-dev"):
        (tmp_path / ".venv" / mark).touch()
    return tmp_path


def in_shell(command: str, checkout: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if "MILVUS" not in key}
    environment |= {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-ec", command], cwd=checkout, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_the_readmes_first_line(checkout):
    first = blocks_of("README.md")[0].commands[0]
    assert first == "make demo"
    printed = in_shell(first, checkout)
    assert (checkout / "demo" / "report.png").is_file()
    shown = text_of("docs/tutorials/first-run.md").partition("<!-- demo -->\n```text\n")[2]
    model, *baselines = shown.partition("\n```")[0].splitlines()[2:]
    assert [line for line in baselines if line not in printed] == []
    name, *figures = re.split(r"\s{2,}", model.strip())
    line = re.split(r"\s{2,}", printed.partition(f"\n{name} ")[2].partition("\n")[0].strip())
    # another CPU sums in another order
    assert np.abs(np.array(line, float) - np.array(figures, float)).max() < 2.5
    assert float(line[0]) > 29.327 + 2


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_the_first_run_prints_what_the_tutorial_shows(checkout):
    page = "docs/tutorials/first-run.md"
    (by_hand,) = [block for block in blocks_of(page) if len(block.commands) == 3]
    printed = [in_shell(command, checkout) for command in by_hand.commands][-1]
    shown = text_of(page).partition("<!-- sample -->\n```text\n")[2].partition("```")[0]
    lines = shown.splitlines()
    baselines = [line for line in lines if re.search("^ *(MostP|item-k)", line)]
    assert [line for line in baselines if line not in printed] == []
    (model,) = [line for line in lines if line.startswith("MIND") and "100.000" in line]
    name = re.split(r"\s{2,}", model)[0]
    line = printed.partition(f"\n{name} ")[2].partition("\n")[0]
    # recall@50, ndcg@50: a processor sums in its own order, 50.917 and 27.990, 50.924 and 27.831 …
    figures = [np.array(text.split()[:2], float) for text in (line, model.removeprefix(name))]
    assert np.abs(figures[0] - figures[1]).max() < 0.5


def write_clicks(file: Path) -> None:
    """Users who walk along the shelves of a shop: 1,500 items, ids as strings."""
    rng = np.random.default_rng(17)
    lines = ["user_id,item_id,timestamp"]
    for user in range(900):
        start = int(rng.integers(1_500))
        items = (start + rng.integers(1, 5, 20).cumsum()) % 1_500
        lines += [f"u-{user},B{item:05},{1_700_000_000 + t}" for t, item in enumerate(items)]
    file.write_text("\n".join(lines) + "\n")


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_the_tutorial_with_your_own_clicks(checkout):
    write_clicks(checkout / "clicks.csv")
    for block in blocks_of("docs/tutorials/own-clicks.md"):
        for command in block.commands:
            in_shell(command, checkout)
    assert (checkout / "out" / "report.png").is_file()
    lists = (checkout / "out" / "lists.jsonl").read_text().splitlines()
    assert len(lists) == 90
    assert '"user": "u-' in lists[0]
    assert '"items": ["B' in lists[0]


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_the_tutorial_on_a_new_model(checkout):
    size = "--users 1000 --clicks 20000"  # of the first run's sample: enough to train at all
    prepare = f"{PYTHON} datasets/amazonbook/prepare.py --sample {size} --out datasets/sample"
    in_shell(prepare, checkout)
    for block in blocks_of("docs/tutorials/new-model.md"):
        for command in block.commands if block.reason is None else []:
            printed = in_shell(command, checkout)
    assert "item-kNN" in printed
