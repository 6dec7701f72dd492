# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The lists that Spark makes are those of ``tools/batch.py``."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest
from support import ROOT

from paddlerec_milvus.batch.cli import main as batch
from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.retrieval.server import LocalMilvus

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(find_spec("pyspark") is None, reason="needs the extra [spark]"),
]

CLUSTER = "--master local-cluster[2,1,1024] --conf spark.ui.enabled=false pyspark-shell"


def spark_lists(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "spark_batch.py"), *arguments]
    variables = {**os.environ, "PYSPARK_SUBMIT_ARGS": CLUSTER, **environment}
    return subprocess.run(command, env=variables, text=True, capture_output=True, check=False)


@pytest.fixture(scope="module")
def histories(small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A row for each test user, and one for a user whom nobody knows."""
    users = read_held_out(small.data / "test")
    ids, items = users.user_ids.tolist(), [one.tolist() for one in users.history_list()]
    file = tmp_path_factory.mktemp("histories") / "histories.parquet"
    pl.DataFrame({"user": [*ids, 10**6], "items": [*items, [10**6]]}).write_parquet(file)
    return file


@pytest.mark.server
@pytest.mark.parametrize("flags", [["--exact"], []])
def test_the_rows_are_those_of_the_command(
    flags: list[str],
    exported: Path,
    histories: Path,
    tmp_path: Path,
    server: LocalMilvus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MILVUS_URI", server.uri)
    ours, theirs = tmp_path / "spark", tmp_path / "command"
    named = ["--export", str(exported), "--histories", str(histories), "--top_k", "20", *flags]
    assert batch([*named, "--out", str(theirs)]) == 0
    done = spark_lists(*named, "--out", str(ours))
    assert done.returncode == 0, done.stderr[-3000:]
    expected, made = (
        pl.read_parquet(sorted(folder.glob("part-*.parquet"))).sort("user")
        for folder in (theirs, ours)
    )
    assert made.drop("scores").equals(expected.drop("scores"))
    scores = [frame["scores"].explode() for frame in (made, expected)]
    assert (scores[0] - scores[1]).abs().max() < 1e-5  # type: ignore[operator]
    again = spark_lists(*named, "--out", str(ours))
    assert again.returncode == 2
    assert "already exists" in again.stderr.splitlines()[-1]


def test_what_cannot_be_is_said(exported: Path, histories: Path, tmp_path: Path) -> None:
    named = ["--export", str(exported), "--out", str(tmp_path / "out")]
    one_process = spark_lists(*named, "--histories", str(histories))
    assert one_process.returncode == 2
    assert "is a file, which one process opens" in one_process.stderr
    twice = tmp_path / "twice.parquet"
    pl.DataFrame({"user": [1, 1], "items": [[2], [3]]}).write_parquet(twice)
    refused = spark_lists(*named, "--histories", str(twice), "--exact")
    assert refused.returncode == 2
    assert "user 1 stands in two rows" in refused.stderr.splitlines()[-1]
