# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``paddlerec-milvus``: its table, what it imports, and the words of its help and errors."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from paddlerec_milvus import bundle, command, main_command, subcommands
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.subcommands import PROGRAM, SUBCOMMANDS, as_typed

IMPORTED = """
import sys
from paddlerec_milvus.main_command import main
assert main(["--help"]) == 0
print([name for name in ("numpy", "pydantic", "polars", "paddle", "pymilvus", "yaml")
       if name in sys.modules])
"""


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the installed command was started."""
    monkeypatch.setattr(sys, "argv", [f"/usr/bin/{PROGRAM}"])


def test_help_names_every_subcommand_and_imports_none() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[-1] == "[]"
    for name in SUBCOMMANDS:
        assert any(line.startswith(f"  {name} ") for line in lines)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_what_the_table_names_is_there(name: str) -> None:
    module, script, _ = SUBCOMMANDS[name]
    found = importlib.util.find_spec(f"paddlerec_milvus.{module}")
    assert found is not None
    assert (
        "\ndef main(argv: Sequence[str] | None = None) -> int:\n" in Path(found.origin).read_text()
    )
    assert not script.endswith(".py") or (ROOT / script).is_file()


@pytest.mark.parametrize("name", SUBCOMMANDS)
@pytest.mark.usefixtures("typed")
def test_help_of_each_has_examples_in_its_own_words(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main_command.main([name, "--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {PROGRAM} {name} ")
    assert len(re.findall(rf"^  .*{PROGRAM} ", text.partition("examples:")[2], re.MULTILINE)) >= 2
    assert not any(script in text for script in ("tools/", "index_benchmark.py", "prepare.py"))


@pytest.mark.usefixtures("typed")
def test_what_is_no_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    assert main_command.main(["trian", "-m", "x"]) == 2
    assert "error: trian: no such subcommand (did you mean 'train'?)" in capsys.readouterr().err
    assert main_command.main([]) == 2
    assert main_command.main(["--version"]) == 0


@pytest.mark.usefixtures("typed")
def test_errors_name_commands_that_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise SettingsError("train one: python -u tools/trainer.py -m mind/config.yaml")

    assert command.run(fails) == 2
    assert "train one: paddlerec-milvus train -m mind" in capsys.readouterr().err


def test_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "python datasets/amazonbook/prepare.py --sample; python -m paddlerec_milvus.serving.app"
    assert as_typed(text) == text  # in a checkout its scripts are there
    monkeypatch.setattr(subcommands, "BUNDLED", tmp_path)
    assert (
        as_typed(text)
        == "paddlerec-milvus prepare --sample; python -m paddlerec_milvus.serving.app"
    )
    assert as_typed("as tools/infer.py takes it") == "as paddlerec-milvus infer takes it"
    theirs = "python -u ../../../tools/trainer.py -m config.yaml"
    assert as_typed(theirs) == theirs


@pytest.mark.usefixtures("typed")
def test_a_missing_package_is_named_with_what_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(name: str) -> int:
        def needs() -> None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        return command.run(needs)

    assert work("paddle.nn") == 2
    line = "error: this needs paddle, which is not installed: pip install 'paddlerec-milvus[train]'"
    assert capsys.readouterr().err.endswith(f"{line}\n")
    assert work("polars.sparse") == 2
    assert "needs polars, which is not installed: `paddlerec-milvus doc" in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError):  # ours to mend
        work("paddlerec_milvus.no")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    for module in ("__main__", "server"):  # as if no test before had imported them
        monkeypatch.delitem(sys.modules, f"paddlerec_milvus.serving.{module}", raising=False)
    assert main_command.main(["serve"]) == 2
    assert "pip install 'paddlerec-milvus[serve]'" in capsys.readouterr().err


def test_the_service_s_own_command_names_a_missing_package_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "from importlib import util\n"
        "find_spec = util.find_spec\n"
        "util.find_spec = lambda name: None if name == 'fastapi' else find_spec(name)\n"
    )
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "paddlerec_milvus.serving", "--help"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    expected = "error: the candidate service needs fastapi: pip install 'paddlerec-milvus[serve]'\n"
    assert done.stderr == expected


def test_a_wheel_is_told_from_a_checkout() -> None:
    assert not bundle.BUNDLED.exists()
