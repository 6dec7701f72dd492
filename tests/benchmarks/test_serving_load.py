# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Figures of the service beside raw pymilvus, worked out from outcomes that are known."""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import sys
import threading
import types

import numpy as np
import polars as pl
import pytest
import serving_load
import serving_soak
from service_callers import ByService, Callers, Wire, post, rotated
from serving_bench import grouped, provenance

from paddlerec_milvus.bench.client_pool import Load, LoadResult, calls_of, joined, new_histogram
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.indexes import Flat

pytestmark = pytest.mark.slow


def test_a_results_file_holds_no_password():
    arguments = argparse.Namespace(
        server="http://root:s3cret@127.0.0.1:9", opt=["milvus.token=s3cret"], clients=4
    )
    made = provenance(arguments, types.SimpleNamespace(about={}))["parameters"]
    assert made == {"server": "http://…@127.0.0.1:9", "opt": ["milvus.token=…"], "clients": 4}


def outcome(milliseconds: list[int], rate: float = 100.0, failures: int = 0) -> LoadResult:
    histogram = new_histogram()
    for each in milliseconds:
        histogram.record_value(1000 * each)
    return LoadResult(
        len(milliseconds), failures, "away" * bool(failures), rate, histogram.encode()
    )


def rounds(service_ms: list[int], failures: int = 0) -> serving_load.Rounds:
    raw, service = outcome([2] * 100), outcome(service_ms, failures=failures)
    return {
        ("raw", "one"): [raw, raw],
        ("service", "one"): [service, service],
        ("service", "excluding"): [service, service],
        ("raw", "many"): [outcome([9], 1_000), outcome([9], 500)],
        ("service", "many"): [outcome([9], 600), outcome([9], 450)],
        ("raw", "batch"): [outcome([99], 10), outcome([99], 10)],
        ("service", "batch"): [outcome([99], 6), outcome([99], 6)],
    }


GIVEN = argparse.Namespace(connections=16, batch=128)


def test_ratios_and_bars():
    # p50 3 / 2 = 1.5, p99 8 / 2 = 4; medians: 525 of 750 requests, 6 of 10 batches of 128 users
    rows = {row["what"]: row for row in serving_load.compared(rounds([3] * 90 + [8] * 10), GIVEN)}
    p50, p99 = rows["p50, ms, one connection"], rows["p99, ms, one connection"]
    assert p50["service / raw"] == pytest.approx(1.5, rel=0.01)
    assert p50["met"] is True
    assert p99["service / raw"] == pytest.approx(4, rel=0.01)
    assert p99["met"] is False
    many = rows["requests/s, 16 connections"]
    assert (many["raw"], many["service"], many["met"]) == (750, 525, True)
    assert (many["least"], many["most"]) == (0.6, 0.9)
    batch = rows["users/s, 128 users a request"]
    assert (batch["raw"], batch["service"], batch["met"]) == (1_280, 768, False)
    assert rows["p99, ms, exclude_history"]["met"] is None


def test_a_failed_request_meets_no_bar():
    rows = serving_load.compared(rounds([2] * 100, failures=1), GIVEN)
    one = [row for row in rows if "one connection" in row["what"]]
    assert [(row["failures"], row["met"]) for row in one] == [(2, False)] * 2


def test_stages_and_the_rest_add_up_to_what_the_caller_waited():
    heads = [
        b"HTTP/1.1 200 OK\r\nserver-timing: tower;dur=1.0, search;dur=2.0\r\nx: y",
        b"HTTP/1.1 200 OK\r\nServer-Timing: tower;dur=2.0, search;dur=3.0",
    ]
    times = serving_load.stage_times(heads)
    assert times == {"tower": [1.0, 2.0], "search": [2.0, 3.0]}
    stages = serving_load.by_stage(times, 5.0)
    assert stages["tower"] == 1.5
    assert stages["search"] == 2.5
    assert stages["rest (HTTP, JSON, waiting)"] == 1.0


def test_a_large_request_has_the_users_that_raw_searches_for():
    interests = np.arange(5, dtype=np.float32).reshape(5, 1, 1)
    raw = calls_of(interests, Load(Flat(), 1, users=2))
    service = grouped([[user] for user in range(5)], 2)
    assert [call.tolist() for call in raw] == service
    assert service == [[[0], [1]], [[2], [3]], [[4], [0]]]


def test_callers_start_with_different_users():
    assert rotated("abcd", 2) == list("cdab")
    assert rotated("abcd", 5) == list("bcda")


@pytest.fixture
def answering():
    """A port that answers each request with the next of the given answers."""
    answers: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while answers:
                connection, _ = listening.accept()
                with connection:
                    while answers and connection.recv(65_536):
                        answer = answers.pop(0)
                        half = len(answer) // 2
                        connection.sendall(answer[:half])
                        connection.sendall(answer[half:])
                        if answer.endswith(b"short"):
                            break

        thread = threading.Thread(target=serve)

        def start(*given: bytes) -> int:
            answers.extend(given)
            thread.start()
            port: int = listening.getsockname()[1]
            return port

        yield start
        thread.join(5)


def whole(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_only_the_models_answers_count(answering):
    fallback = b'{"source":["fallback"]}'
    port = answering(
        whole(b'{"source":["model"]}'),
        whole(fallback),
        whole(b"no", "500 Internal Server Error"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        whole(b"again"),
    )
    wire, request = Wire(port), post("/candidates", b"{}")
    assert json.loads(wire(request)) == {"source": ["model"]}
    with pytest.raises(RetrievalError, match="fallback"):
        wire(request)
    with pytest.raises(RetrievalError, match="500 Internal Server Error: no"):
        wire(request)
    with pytest.raises(RetrievalError, match="the connection was closed"):
        wire(request)
    assert wire(request) == b"again"  # by a new connection
    wire.close()


def test_callers_are_processes_that_ask(answering):
    port = answering(*[whole(b"{}")] * 3)
    with Callers(1, {"service": ByService(port, [post("/candidates", b"{}")])}) as callers:
        seen = callers.run("service", [Load(Flat(), 1, requests=3)])
        assert (seen.requests, seen.failures) == (3, 0)
        with pytest.raises(RetrievalError, match="KeyError: 'other'"):
            callers.run("other", [Load(Flat(), 1, requests=1)])


def window(minute: float, p99: int, memory: float, failures: int = 0) -> serving_soak.Window:
    return serving_soak.Window(60 * minute, memory, 1.0, outcome([p99], failures=failures))


def test_a_soak_is_judged_by_its_first_and_last_minutes():
    # 30 minutes: 10 ms at first and 11 at last, whatever is between; 100 MiB and 101
    steady = [
        window(minute, 10 if minute <= 5 else 99 if minute <= 25 else 11, 100 + (minute > 15))
        for minute in range(1, 31)
    ]
    assert serving_soak.judged(steady)["last / first"] == pytest.approx(1.1, rel=0.01)
    assert serving_soak.judged(steady)["steady"]
    assert not serving_soak.judged([*steady, window(31, 99, 101)])["steady"]
    assert not serving_soak.judged([*steady[:-1], window(30, 11, 101, failures=1)])["steady"]
    grown = [each._replace(rss_mib=100 + 0.2 * number) for number, each in enumerate(steady)]
    assert not serving_soak.judged(grown)["steady"]
    assert joined([each.outcome for each in steady]).requests == 30


def test_the_soak_is_drawn(tmp_path):
    serving_soak.draw([window(1, 9, 100), window(2, 9, 100)], 50.0, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.server
def test_the_whole_measurement(server, trained, tmp_path, monkeypatch, capsys):
    file, data = tmp_path / "load.json", tmp_path / "data"
    shutil.copytree(trained.data, data)
    ids = pl.read_csv(data / "items.csv")  # the log's own are not the model's numbers
    ids.with_columns(pl.col("source_id") + 1_000).write_csv(data / "items.csv")
    size = "--users 20 --rounds 1 --requests 20 --batches 2 --batch 8 --seconds 0.5 --rate 20"
    options = [f"runner.infer_load_path={trained.checkpoints}", "hyper_parameters.neg_samples=128"]
    arguments = ["serving_load.py", "-m", "mind/config.yaml", "--data", str(data)]
    arguments += [*size.split(), "--server", server.uri, "--epoch", "0", "--connections", "2"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--json", str(file), "-o", *options])
    assert serving_load.main() in (0, 1)  # the bars are for a large catalogue on a quiet machine
    told = json.loads(file.read_text())
    assert told["same_lists"] == 1.0
    assert told["inserted"]["inserted"] == 300
    assert [row["failures"] for row in told["rows"]] == [0] * 6
    assert told["open_loop"][0]["failures"] == 0
    assert set(told["mean_ms"]) >= {"tower", "search", "merge"}
    assert {"machine", "versions", "parameters", "data"} <= set(told)
    assert "requests/s, 2 connections" in capsys.readouterr().out
