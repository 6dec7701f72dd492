# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The ranker and each channel fail in turn, under 20 requests for ranked lists a second.

Every answer is a 200 with the next best list and its source, and after the fault all are ranked
again. A real Milvus behind a network that can be cut. The table is printed (``pytest -s``).
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from fault_table.proxy import Fault, Proxy
from fault_table.steady_requests import Answer, SteadyRequests
from ranked_calls import copy_of, train_small
from running_service import Running, running, settings_of, until
from tabulate import tabulate

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.ranking.channels import INTERESTS, NEIGHBOURS, POPULAR, QUOTAS, TRANSITIONS
from paddlerec_milvus.ranking.pair_table import PairTable
from paddlerec_milvus.ranking.ranking_model import RankingModel
from paddlerec_milvus.retrieval.base import MISSING_ID, Neighbours
from paddlerec_milvus.retrieval.milvus import MilvusRetriever

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(1_200)]

RATE, ANSWERS, STEADY = 20.0, 40, 25  # a second; during a fault; ranked one after the other
AGAIN = 120.0  # seconds after a fault, within which all lists are ranked again
TIMEOUT, RANKING_TIMEOUT = 2.0, 1.0
SLACK = 10.0  # that an answer may take beyond both on a busy machine
BODIES: list[dict[str, Any]] = [
    {"hist_item": [history], "top_k": 10} for history in ([3, 7], [12, 40, 41], [5], [250, 17])
]
EMPTY = PairTable(np.zeros(2, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))


class Bench:
    """A service, and what it was started on."""

    def __init__(self, service: Running, trained: Any, proxy: Proxy) -> None:
        self.service, self.checkpoints, self.proxy = service, trained.checkpoints, proxy

    @property
    def ranking(self) -> RankingModel:
        model = self.service.service.model
        assert model.ranking is not None
        return model.ranking

    def insert(self) -> None:
        assert self.service.http.post("/insert").status_code == 200


class Row(NamedTuple):
    """What came of one fault."""

    fault: str
    statuses: Counter[int]
    sources: Counter[str]
    longest: float
    again: float


@contextlib.contextmanager
def patched(target: Any, name: str, value: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, value)
        yield


def raises(*arguments: object, **options: object) -> Any:
    raise RuntimeError("this fails")


def not_a_number(rows: np.ndarray) -> np.ndarray:
    return np.full(len(rows), np.nan, np.float32)


@contextlib.contextmanager
def hanging(bench: Bench) -> Iterator[None]:
    end = threading.Event()
    with patched(bench.ranking.ranker, "scores", lambda rows: (end.wait(60), raises())[1]):
        try:
            yield
        finally:
            end.set()


@contextlib.contextmanager
def other_files(bench: Bench, change: Callable[[Path], None]) -> Iterator[None]:
    """Another ranker beside the checkpoint, which is inserted; then the right one again."""
    place, aside = bench.checkpoints / "0" / "ranking", bench.checkpoints.parent / "aside"
    shutil.copytree(place, aside)
    change(place)
    bench.insert()
    try:
        yield
    finally:
        shutil.rmtree(place, ignore_errors=True)
        shutil.move(aside, place)
        bench.insert()


def garbage(place: Path) -> None:
    (place / "trees.onnx").write_bytes(b"\0garbage" * 100)


def of_another_model(place: Path) -> None:
    shutil.rmtree(place)
    shutil.copytree(place.parent.parent / "1" / "ranking", place)


@contextlib.contextmanager
def refused(bench: Bench) -> Iterator[None]:
    bench.proxy.fault = Fault.REFUSE
    try:
        yield
    finally:
        bench.proxy.fault = Fault.NONE


def empty_table(bench: Bench, name: str) -> AbstractContextManager[None]:
    channels = bench.ranking.channels
    tables = {**channels.tables, name: EMPTY}
    return patched(bench.ranking, "channels", channels._replace(tables=tables))


def broken_table(bench: Bench, name: str) -> AbstractContextManager[None]:
    channels = bench.ranking.channels
    tables = {**channels.tables, name: None}
    return patched(bench.ranking, "channels", channels._replace(tables=tables))


def nothing(self: MilvusRetriever, queries: np.ndarray, k: int, **options: Any) -> Neighbours:
    return Neighbours(
        np.full((len(queries), k), MISSING_ID, np.int64),
        np.full((len(queries), k), -np.inf, np.float32),
    )


def away(*arguments: object, **options: object) -> Any:
    raise RetrievalError("Milvus does not answer")


MODELS_ORDER, RANKED, OTHERS = {"unranked"}, {"ranked"}, {"other_channels"}
FAULTS: dict[str, tuple[Callable[[Bench], AbstractContextManager[None]], set[str]]] = {
    "the ranker raises": (lambda b: patched(b.ranking.ranker, "scores", raises), MODELS_ORDER),
    "the ranker hangs": (hanging, MODELS_ORDER),
    "the ranker gives NaN": (
        lambda b: patched(b.ranking.ranker, "scores", not_a_number),
        MODELS_ORDER,
    ),
    "trees.onnx is garbage, inserted": (lambda b: other_files(b, garbage), MODELS_ORDER),
    "a ranker of another model, inserted": (
        lambda b: other_files(b, of_another_model),
        MODELS_ORDER,
    ),
    "no ranker, inserted": (lambda b: other_files(b, shutil.rmtree), MODELS_ORDER),
    "transitions are empty": (lambda b: empty_table(b, TRANSITIONS), RANKED),
    "transitions raise": (lambda b: broken_table(b, TRANSITIONS), MODELS_ORDER),
    "neighbours are empty": (lambda b: empty_table(b, NEIGHBOURS), RANKED),
    "neighbours raise": (lambda b: broken_table(b, NEIGHBOURS), MODELS_ORDER),
    "popular items are none": (
        lambda b: patched(
            b.ranking, "channels", b.ranking.channels._replace(clicks=np.zeros(1, np.int64))
        ),
        RANKED,
    ),
    "popular items raise": (
        lambda b: patched(b.ranking, "channels", b.ranking.channels._replace(clicks=None)),
        MODELS_ORDER,
    ),
    "interests find nothing": (lambda _: patched(MilvusRetriever, "search", nothing), RANKED),
    "interests' search fails": (lambda _: patched(MilvusRetriever, "search", away), OTHERS),
    "interests' search raises": (lambda _: patched(MilvusRetriever, "search", raises), OTHERS),
    "Milvus is down": (refused, OTHERS),
}


@pytest.fixture
def bench(trained, server, tmp_path) -> Iterator[Bench]:
    copy = copy_of(trained, tmp_path)
    for epoch in ("0", "1"):
        train_small(settings_of(copy, tmp_path, epoch=epoch).trained)
    with Proxy(server.port) as proxy:
        settings = settings_of(
            copy,
            tmp_path,
            *(f"milvus.uri={proxy.uri}", "milvus.collection=fault_ranking"),
            timeout=TIMEOUT,
            ranking_timeout=RANKING_TIMEOUT,
        )
        with running(settings) as service:
            made = Bench(service, copy, proxy)
            made.insert()
            yield made
            service.http.post("/delete")


def source(answer: Answer) -> str:
    return answer.source if answer.status == 200 else str(answer.status)


def ranked_again(requests: SteadyRequests, ended: float) -> float:
    """Seconds after ``ended`` to the first ranked list after which all are."""

    def settled() -> bool:
        last = requests.since(ended)[-STEADY:]
        return len(last) == STEADY and {source(answer) for answer in last} == RANKED

    until(settled, AGAIN)
    after = requests.since(ended)
    last = max([ended, *(one.at for one in after if source(one) != "ranked")])
    return min(one.at + one.seconds for one in after if one.at > last) - ended


def happens(name: str, bench: Bench, requests: SteadyRequests) -> Row:
    """Let the fault happen until ``ANSWERS`` show what comes of it, and end it."""
    fault, expected = FAULTS[name]
    began = time.monotonic()
    with fault(bench):
        until(lambda: _last(requests, began) == expected, AGAIN)
        settled = time.monotonic()
        until(lambda: len(requests.since(settled)) >= ANSWERS, AGAIN)
        shown = requests.since(settled)[:ANSWERS]
        ended = time.monotonic()
    again = ranked_again(requests, ended)
    during = [answer for answer in list(requests.answers) if began <= answer.at < ended]
    if name != "Milvus is down":  # whose state is told by a probe, while requests find out
        assert {source(answer) for answer in shown} == expected, name
    return Row(
        name,
        Counter(answer.status for answer in during),
        Counter(map(source, during)),
        max(answer.seconds for answer in during),
        again,
    )


def _last(requests: SteadyRequests, began: float) -> set[str]:
    last = requests.since(began)[-STEADY:]
    return {source(answer) for answer in last} if len(last) == STEADY else set()


def test_the_next_best_answer_comes_with_its_source(bench, capsys) -> None:
    assert {TRANSITIONS, NEIGHBOURS, POPULAR, INTERESTS} == set(QUOTAS)
    rows = []
    with SteadyRequests(bench.service.url, BODIES, RATE, "/recommend") as requests:
        ranked_again(requests, time.monotonic())
        for name in FAULTS:
            rows.append(happens(name, bench, requests))
    cells = [
        [
            row.fault,
            sum(row.statuses.values()),
            sum(number for status, number in row.statuses.items() if status >= 500),
            ", ".join(f"{name} {number}" for name, number in row.sources.most_common()),
            f"{row.longest:.2f}",
            f"{row.again:.1f}",
        ]
        for row in rows
    ]
    heads = ["fault", "requests", "5xx", "sources", "longest, s", "ranked again, s"]
    with capsys.disabled():
        print("\n" + tabulate(cells, heads, "github", disable_numparse=True))
    assert requests.failed() == []
    assert requests.longest() < TIMEOUT + RANKING_TIMEOUT + SLACK
