# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``prepare.py --engine``: what is said before any Spark starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from paddlerec_milvus.data.cli import main


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_a_missing_pyspark_is_named_with_its_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    log = tmp_path / "log.csv"
    log.write_text("1,2,3\n")
    out = tmp_path / "out"
    said = refusal(capsys, "--interactions", str(log), "--engine", "spark", "--out", str(out))
    assert said == (
        "error: --engine spark needs the extra [spark]: pip install 'paddlerec-milvus[spark]'"
    )
    assert not out.exists()


def test_engines_and_sources_that_do_not_go_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", str(tmp_path / "out"))
    said = refusal(capsys, "--interactions", "s3a://bucket/clicks", *out)
    assert said.startswith("error: --interactions s3a://bucket/clicks: an address, which --engine")
    said = refusal(capsys, "--sample", "--engine", "spark", *out)
    assert said == ("error: --engine spark goes with --interactions and --reviews alone; remove it")
