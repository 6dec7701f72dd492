# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Recommender.serve: the same lists over HTTP, a port that is taken, Ctrl-C; and quiet imports."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import chain
from typing import Any, cast

import httpx
import pytest
from support import ROOT

from paddlerec_milvus import Recommender
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.serving.background import BackgroundServer

pytestmark = pytest.mark.slow

SERVE = """
import sys
from paddlerec_milvus import Recommender
Recommender.load(sys.argv[1]).index(sys.argv[2], type="FLAT").serve(port=0)
print("ended")
"""
IMPORT = """
import sys
import paddlerec_milvus
light = set(sys.modules)
from paddlerec_milvus import Recommender
assert "Recommender" in dir(paddlerec_milvus)
print(sorted({"numpy", "polars"} & light))
print(sorted({"paddle", "pandas", "pymilvus", "fastapi", "scipy", "matplotlib"} & set(sys.modules)))
"""


def run(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def answer_of_the_model(url: str, request: dict) -> dict:
    """On a busy machine the first ones may come too late, and be popular items."""
    for _ in range(20):
        answer = httpx.post(url, json=request, timeout=60).json()
        if set(answer["source"]) == {"model"}:
            break
    return answer


def test_http_gives_the_lists_of_recommend(trained, tmp_path):
    with Recommender.load(trained.checkpoints) as loaded:
        loaded.index(tmp_path / "milvus.db", type="FLAT")
        lists = loaded.recommend([[5, 9, 30], [7]], k=4, exclude_history=True)
        request = {"hist_item": [[5, 9, 30], [7]], "top_k": 4, "exclude_history": True}
        with loaded.serve(port=0, block=False) as server:
            answer = answer_of_the_model(f"{server.url}candidates", request)
            port = int(server.url.rstrip("/").rpartition(":")[2])
            with pytest.raises(SettingsError, match="Address already in use; give another host"):
                loaded.serve(port=port, block=False)
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url)
        with pytest.raises(SettingsError, match="it has no keys"):
            loaded.serve(port=0, host="0.0.0.0", block=False)
    for name, column in (("candidates", "item"), ("interest", "interest"), ("scores", "score")):
        flat = list(chain(*answer[name]))
        assert flat == pytest.approx(lists[column].to_list(), rel=1e-5)


def test_a_script_serves_until_ctrl_c(trained, tmp_path):
    command = run(SERVE, str(trained.checkpoints), str(tmp_path / "milvus.db"))
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith("ready: "))
        assert httpx.get(f"{line.split()[1]}healthz", timeout=60).status_code == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("ended\n", 0)
    assert "Traceback" not in err


class SlowServer:
    """Takes its time to end."""

    should_exit = False
    ended = False

    def __init__(self) -> None:
        self.answering = threading.Event()
        self.answering.set()

    def run(self, sockets: list[socket.socket]) -> None:
        while not self.should_exit:
            time.sleep(0.01)
        time.sleep(0.5)
        self.ended = True


def test_ctrl_c_waits_for_the_answers_under_way():
    slow = SlowServer()
    server = BackgroundServer(cast(Any, slow), socket.socket(), "")
    server.start()
    main = threading.main_thread().ident
    threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
    server.wait()
    assert slow.ended


def test_importing_is_quiet_and_light():
    done = subprocess.run(run(IMPORT), env=environment(), capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n[]\n", "")
