# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The curl lines of the tutorials on serving and ranking, run as they stand there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from running_service import Running, running
from support import ROOT

pytestmark = pytest.mark.slow

ADDRESS = "http://127.0.0.1:8000"


def lines_of(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^curl .+$", text, re.MULTILINE)


@pytest.fixture(params=["lite", pytest.param("server", marks=pytest.mark.server)])
def fresh(request, make_settings) -> Iterator[Running]:
    """One without vectors, on Milvus Lite and on the real server."""
    options = ["milvus.collection=tutorial"]
    if request.param == "server":
        options.append(f"milvus.uri={request.getfixturevalue('server').uri}")
    with running(make_settings(*options)) as started:
        yield started
        started.http.delete("/users/7")


def answers_of(page: str, service: Running) -> dict[str, Any]:
    """By path, of the lines one after the other."""
    answers = {}
    for line in lines_of(page):
        assert ADDRESS in line
        assert "?" not in re.sub(r"'[^']*'", "", line), "a shell takes it for a pattern"
        command = line.replace(ADDRESS, service.url)
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        path = re.search(rf"{ADDRESS}(/[a-z0-9/]*)", line).group(1)
        answers[path] = json.loads(done.stdout)
        assert "detail" not in answers[path], line
    return answers


@pytest.mark.parametrize("page", ["serving.md", "serving.zh.md"])
def test_curl_lines_work_as_written(fresh, page):
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    answers = answers_of(f"docs/tutorials/{page}", fresh)
    assert answers["/insert"]["inserted"] == 300
    assert [len(row) for row in answers["/candidates"]["candidates"]] == [50, 50]
    assert answers["/count"]["count"] == 300
    assert answers["/delete"] == {"deleted": 300}
    assert answers["/users/7/candidates"]["source"] == ["model"]


@pytest.mark.parametrize("page", ["ranking.md", "ranking.zh.md"])
def test_curl_lines_of_ranking(fresh, page):
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    fresh.http.post("/insert")
    fresh.http.post("/users/7/events", json={"items": [43, 23, 65]})
    answers = answers_of(f"docs/tutorials/{page}", fresh)
    for answer in answers.values():
        assert answer["source"] == ["unranked"]  # this model has no ranker
        assert len(answer["recommendations"][0]) == 10
