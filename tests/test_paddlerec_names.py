# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""PaddleRec's other commands lead to those that do the same here."""

from __future__ import annotations

import shlex

import pytest
from support import ROOT

from paddlerec_milvus.paddlerec_names import REASONS, main


@pytest.mark.parametrize("script", REASONS)
def test_a_command_of_paddlerec_names_those_that_do_it(script, capsys):
    assert main(script, ["-m", "mind/config.yaml", "-o", "milvus.token=s3cret"]) == 2
    first, *commands = capsys.readouterr().err.splitlines()
    assert first.startswith(f"error: {script}")
    assert commands
    for command in commands:
        python, unbuffered, program, *words = shlex.split(command)
        assert (python, unbuffered) == ("python", "-u")
        assert program == "-m" or (ROOT / program).is_file()
        assert "s3cret" not in command
        assert program == "-m" or "mind" in " ".join(words)


def test_there_is_a_file_for_each():
    files = {file.name for file in (ROOT / "tools").rglob("*.py")}
    assert set(REASONS) <= files
