# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A service under requests and writes while something fails, and what came of each of them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from service_process import ServiceProcess

from fault_table.click_sender import ClickSender, UserClicks, judged, repeats
from fault_table.item_writer import ItemWriter
from fault_table.row import FaultRow
from fault_table.served_folder import ServedFolder
from fault_table.steady_requests import Answer, SteadyRequests
from paddlerec_milvus.data.id_map import OwnId, read_item_ids
from paddlerec_milvus.data.prepared import open_prepared
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.retrieval.server import LocalMilvus
from paddlerec_milvus.retrieval.user_store import UserStore
from paddlerec_milvus.serving.client import Client

TIMEOUT = 2.0  # seconds that a service may take
SLACK = 5.0  # that an answer may take beyond that, on a busy machine
RATE = 50.0  # requests a second
HISTORIES, TOP_K = 8, 20
USERS, CALLERS = 40, 4
CLICK_PAUSE = 0.2  # seconds between two clicks of a caller
STEADY, WRITTEN = 50, 10  # answers by the model one after the other, and acknowledged clicks
SETTLED = 1.0  # seconds after a fault, in which an answer says nothing yet
INSERT_SECONDS, READY_SECONDS = 60.0, 60.0
AWAY = 180.0  # seconds after a fault, within which the model must answer
BACK = 10.0  # seconds for which popular items are asked again
EPOCHS = (0, 1)


@dataclass
class FaultBench:
    """What all faults share: the model's two epochs, their lists, and one Milvus."""

    place: Path
    served: ServedFolder
    data: Path
    stack: ExitStack
    short: bool
    seed: int
    histories: list[list[OwnId]] = field(init=False)
    lists: list[list[list[OwnId | None]]] = field(init=False)
    """Of each epoch, of each history."""

    def __post_init__(self) -> None:
        """Draw histories, and compute their lists by exact search."""
        draw = random.Random(self.seed)
        self.total = open_prepared(self.data).item_count - 1
        ids = read_item_ids(self.data)
        self.own_ids: list[Any] = [ids.own(number) for number in range(1, self.total + 1)]
        self.histories = [draw.sample(self.own_ids, 1 + place) for place in range(HISTORIES)]
        expected = [self.served.expected(epoch, self.histories, TOP_K) for epoch in EPOCHS]
        self.lists = [epoch.lists for epoch in expected]
        self.interests = np.concatenate([epoch.interests for epoch in expected])
        if any(old == new for old, new in zip(*self.lists, strict=True)):
            raise RetrievalError("both epochs give the same list: they cannot be told apart")

    @cached_property
    def milvus(self) -> LocalMilvus:
        """A Milvus for all faults but its own."""
        return self.stack.enter_context(LocalMilvus(self.place / "milvus"))

    def times(self, usual: int, short: int) -> int:
        """How often a fault is to happen."""
        return short if self.short else usual

    def service(
        self,
        collection: str,
        uri: str,
        environment: Mapping[str, str] | None = None,
        **how: Any,
    ) -> ServiceProcess:
        """A service on ``collection`` of the Milvus at ``uri``."""
        environment = {**self.served.environment(uri, collection, TIMEOUT), **(environment or {})}
        return ServiceProcess(environment, self.place / f"{collection}.log", **how)

    def epoch_of(self, service: ServiceProcess) -> int | None:
        """Whose lists the service gives to all histories; None: a mixture, or popular items for
        ``BACK`` seconds.
        """
        until = time.monotonic() + BACK
        with Client(service.url) as client:
            answer = client.candidates(self.histories, TOP_K)
            while set(answer.source) != {"model"} and time.monotonic() < until:
                time.sleep(0.2)
                answer = client.candidates(self.histories, TOP_K)
        known = [epoch for epoch in EPOCHS if answer.candidates == self.lists[epoch]]
        return known[0] if known and set(answer.source) == {"model"} else None

    def items_in_no_list(self) -> dict[int, Any]:
        """Own ids by number."""
        listed = {own for epoch in self.lists for row in epoch for own in row}
        items = [(n, own) for n, own in enumerate(self.own_ids, 1) if own not in listed]
        random.Random(self.seed).shuffle(items)
        return dict(items)


def inserted(service: ServiceProcess) -> float:
    """Insert what lies on disk, which must succeed; the seconds that it took."""
    began = time.monotonic()
    with Client(service.url) as client:
        client.insert()
    return time.monotonic() - began


class UnderLoad:
    """Requests to ``services`` and clicks, of one ``collection``; a context manager.

    ``writes_items``: items change, too. All is counted into ``row`` at the end; ``dies``: services
    are killed, and then nobody listens; ``other_statuses``: of writes that are right, too.
    """

    def __init__(
        self,
        bench: FaultBench,
        row: FaultRow,
        services: Sequence[ServiceProcess],
        collection: str,
        *,
        writes_items: bool = False,
        dies: bool = False,
        other_statuses: Sequence[str] = (),
    ) -> None:
        self._bench, self._row, self._collection = bench, row, collection
        self._dies, self._other_statuses = dies, other_statuses
        bodies = [{"hist_item": [history], "top_k": TOP_K} for history in bench.histories]
        rate = RATE / len(services)
        self.requests = [SteadyRequests(service.url, bodies, rate) for service in services]
        self.users = {user: UserClicks() for user in range(USERS)}
        self.clicks = ClickSender([service.port for service in services], bench.seed)
        self.items: ItemWriter | None = None
        if writes_items:
            items = bench.items_in_no_list()
            self.items = ItemWriter(services[0].url, items, bench.interests)
        self._end = threading.Event()
        self._pool = ThreadPoolExecutor(CALLERS, "clicks")
        self._callers: list[Future[None]] = []
        self._stack = ExitStack()

    def __enter__(self) -> UnderLoad:
        for requests in self.requests:
            self._stack.enter_context(requests)
        self._callers = [self._pool.submit(self._click, caller) for caller in range(CALLERS)]
        if self.items is not None:
            self.items.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._end.set()
        if self.items is not None:
            self.items.stop()
        self._pool.shutdown()
        self._stack.close()
        self._count()

    def _click(self, caller: int) -> None:
        draw = random.Random(self._bench.seed * 1_000 + caller)
        own = range(caller, USERS, CALLERS)
        while not self._end.wait(CLICK_PAUSE):
            user, item = draw.choice(own), draw.choice(self._bench.own_ids)
            self.users[user].sent.append(item)
            if repeats(caller):
                self.clicks.send_until(user, item)
                self.users[user].acknowledged.append(item)
            elif self.clicks.send(user, item, ""):
                self.users[user].acknowledged.append(item)

    def steady(self) -> None:
        """Wait until the model gives all answers, and clicks are taken."""
        self._wait(time.monotonic())

    def recovered(self, ended: float) -> None:
        """Wait until it answers and takes clicks again; note how long after ``ended`` that was."""
        self._row.times += 1
        self._wait(time.monotonic() + SETTLED)
        seconds = 0.0
        for requests in self.requests:
            after = requests.since(ended)
            if others := [answer.at for answer in after if not _by_model(answer)]:
                last = max(others)
                first = min(one.at + one.seconds for one in after if one.at > last)
                seconds = max(seconds, first - ended)
        self._row.model_again.append(seconds)
        written = next(moment for moment in self.clicks.acknowledged if moment > ended)
        self._row.writes_again.append(written - ended)

    def _wait(self, begin: float) -> None:
        while True:
            latest = [requests.since(begin)[-STEADY:] for requests in self.requests]
            written = sum(moment > begin for moment in self.clicks.acknowledged[-WRITTEN:])
            steady = all(len(part) == STEADY and all(map(_by_model, part)) for part in latest)
            if steady and written == WRITTEN:
                return
            if time.monotonic() > begin + AWAY:
                raise RetrievalError(
                    f"{self._row.fault}: after {AWAY:g} s the model does not answer all, or "
                    f"no clicks are taken: {self.clicks.reasons}, {[part[-1:] for part in latest]}"
                )
            time.sleep(0.1)

    def _count(self) -> None:
        row = self._row
        for requests in self.requests:
            for answer in requests.answers:
                self._count_answer(answer)
            answered = [one.seconds for one in requests.answers if one.status]
            row.longest = max([row.longest, self.clicks.longest, *answered])
        answers, reasons = self.clicks.answers, self.clicks.reasons
        if self.items is not None:
            row.longest = max(row.longest, self.items.longest)
            answers, reasons = answers + self.items.answers, reasons | self.items.reasons
        row.counts["answers to writes"] = dict(sorted(answers.items()))
        row.counts["reasons"] = reasons
        row.refused += answers["503"]
        row.unanswered += answers["none"]
        row.require(self._dies or not answers["none"], "writes without an answer")
        for status, number in answers.items():
            promised = status in ("none", "503", *self._other_statuses) or status.startswith("2")
            row.errors += 0 if promised or status < "5" else number
            row.require(promised, f"{number} writes: {status}: {reasons.get(status)}")
        limit = TIMEOUT + SLACK
        row.require(row.longest < limit, f"an answer took {row.longest:.1f} s, above {limit:g}")
        row.require(not row.mixed, f"{row.mixed} lists are no model's")
        for caller in self._callers:
            row.require(caller.exception() is None, f"clicks: {caller.exception()}")

    def _count_answer(self, answer: Answer) -> None:
        row = self._row
        row.requests += 1
        if answer.status == 0:
            row.unanswered += 1
            row.require(self._dies, f"a request without an answer: {answer.text}")
        elif answer.status != 200:
            row.errors += answer.status >= 500
            row.require(False, f"a request: {answer.status}: {answer.text:.200}")
        elif answer.source == "model":
            (listed,) = answer.body["candidates"]
            row.mixed += all(listed != lists[answer.number] for lists in self._bench.lists)
        else:
            row.popular += 1

    def compare(self, uri: str) -> None:
        """Count what Milvus at ``uri`` holds of what was acknowledged; the writers have ended."""
        row, store = self._row, UserStore(uri, self._collection)
        counts = judged(store, self.users, CALLERS)
        store.close()
        row.counts["clicks"] = counts
        row.acknowledged += counts["acknowledged"]
        row.stored += counts["acknowledged"] - counts["lost"]
        for name in ("lost", "out_of_order", "added_twice", "not_sent"):
            row.require(not counts[name], f"clicks: {name}: {counts[name]}")
        if self.items is not None:
            with MilvusRetriever(uri, self._collection) as retriever:
                retriever.open()
                acknowledged, right, problems = self.items.stored(retriever, self._bench.total)
            row.acknowledged += acknowledged
            row.stored += right
            row.require(acknowledged == right, f"items: {acknowledged - right} lost")
            row.problems += problems
        log = (self._bench.place / f"{self._collection}.log").read_text("utf-8", "replace")
        row.require("Traceback" not in log, "a traceback in the service's log")
        row.require(row.acknowledged > 0, "no write was acknowledged")


def _by_model(answer: Answer) -> bool:
    return answer.status == 200 and answer.source == "model"
