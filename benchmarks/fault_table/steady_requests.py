# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Requests on a timetable, so many a second whatever the answers do, and what came of each."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from fault_table.click_sender import GIVE_UP

MOST_WAITING = 128  # requests under way at a time
IDLE = 2.0  # seconds after which a connection is not used again: uvicorn closes it after five


class Answer(NamedTuple):
    """Of one request."""

    at: float
    """``time.monotonic`` when it was sent."""
    seconds: float
    status: int
    """0: none, ``text`` is the reason."""
    text: str
    number: int = 0
    """Which of the bodies was sent."""

    @property
    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        parsed: dict[str, Any] = json.loads(self.text)
        return parsed

    @property
    def source(self) -> str:
        """model, popular, fallback … of the first user."""
        return str(self.body["source"][0])


class SteadyRequests:
    """Sends ``rate`` POST a second to ``path`` of ``url``, with ``bodies`` in turn, till the end.

    A context manager; ``answers`` grows meanwhile and is complete afterwards.
    """

    def __init__(
        self,
        url: str,
        bodies: Sequence[dict[str, Any]],
        rate: float = 50.0,
        path: str = "/candidates",
    ) -> None:
        self.answers: list[Answer] = []
        self._path = path
        self._address = urlsplit(url).netloc
        self._bodies = [json.dumps(body) for body in bodies]
        self._pause = 1 / rate
        self._end = threading.Event()
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []
        self._pool = ThreadPoolExecutor(MOST_WAITING, "requests")
        self._timetable = threading.Thread(target=self._run, name="requests")

    def __enter__(self) -> SteadyRequests:
        self._timetable.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._end.set()
        self._timetable.join()
        self._pool.shutdown()
        for connection in self._connections:
            connection.close()

    def since(self, moment: float) -> list[Answer]:
        """Answers to what was sent after ``moment``."""
        return [answer for answer in list(self.answers) if answer.at >= moment]

    def settled(self, moment: float) -> bool:
        """Whether the last 25 answers to what was sent after ``moment`` are by the model."""
        last = self.since(moment)[-25:]
        return len(last) == 25 and all(answer.source == "model" for answer in last)

    def longest(self) -> float:
        """Seconds of the slowest answer."""
        return max(answer.seconds for answer in self.answers)

    def failed(self) -> list[Answer]:
        """Those without 200."""
        return [answer for answer in self.answers if answer.status != 200]

    def _run(self) -> None:
        planned, number = time.monotonic(), 0
        while not self._end.wait(max(0.0, planned - time.monotonic())):
            self._pool.submit(self._send, number % len(self._bodies))
            planned, number = planned + self._pause, number + 1

    def _send(self, number: int) -> None:
        began = time.monotonic()
        try:
            status, text = self._exchanged(self._bodies[number])
        except (OSError, http.client.HTTPException) as problem:
            self._local.connection = None
            status, text = 0, f"{type(problem).__name__}: {problem}"
        self.answers.append(Answer(began, time.monotonic() - began, status, text, number))

    def _exchanged(self, body: str) -> tuple[int, str]:
        connection = self._connection()
        connection.request("POST", self._path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def _connection(self) -> http.client.HTTPConnection:
        """This thread's own."""
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        now = time.monotonic()
        if connection is None or now - self._local.used > IDLE:
            connection = http.client.HTTPConnection(self._address, timeout=GIVE_UP)
            self._local.connection = connection
            self._connections.append(connection)
        self._local.used = now
        return connection
