# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The benchmarks' own modules can be imported; what the tests of benchmarks/quality.py share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support import ROOT

from paddlerec_milvus.data.cli import main as prepare

sys.path.insert(0, str(ROOT / "benchmarks"))

if TYPE_CHECKING:
    from quality_table.data import DataSet

QualityRun = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """A small sample log: 400 users, 200 items."""
    from quality_table.data import open_data

    folder = tmp_path_factory.mktemp("quality") / "data"
    size = ["--users", "400", "--items", "200", "--clicks", "6000"]
    assert prepare(["--sample", *size, "--out", str(folder)]) == 0
    return open_data(f"tiny={folder}", folder.parent)


@pytest.fixture
def run(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> QualityRun:
    """The command with expected values of the caller; returns its exit code and JSON."""
    from quality_table import cli, expected

    def command(*arguments: str, known: dict[str, Any] | None = None) -> tuple[int, Any]:
        file = tmp_path / "expected.yaml"
        given = {"tiny": {"fingerprint": data.fingerprint, "methods": known or {}}}
        file.write_text(yaml.safe_dump(given))
        monkeypatch.setattr(cli, "read_expected", lambda: expected.read_expected(file))
        monkeypatch.setattr(cli, "write_expected", lambda logs: expected.write_expected(logs, file))
        places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out" / "q")]
        code = cli.main(["--data", f"tiny={data.folder}", *places, "--jobs", "1", *arguments])
        report = tmp_path / "out" / "q.json"
        return code, json.loads(report.read_text())["data"]["tiny"] if report.exists() else None

    return command


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces in a thread of this process: starting another costs more than all they do."""
    from quality_table import pieces

    pool = lambda jobs, **_: ThreadPoolExecutor(jobs)  # noqa: E731
    monkeypatch.setattr(pieces, "ProcessPoolExecutor", pool)
