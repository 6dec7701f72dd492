# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Clicks sent to services that fail meanwhile, and whether a store holds what was acknowledged."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.user_history import OwnId, UserState

HOST = "127.0.0.1"
REASON = 300  # characters of an answer
GIVE_UP = 30.0  # seconds for a request of a caller
AGAIN = 0.2  # seconds between two tries
PATIENCE = 120.0  # seconds within which a repeated click must be acknowledged


@dataclass
class UserClicks:
    """What a caller knows of a user: items acknowledged, and all that were sent, in order."""

    acknowledged: list[int] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)


class ClickSender:
    """Sends clicks to ``ports`` and counts the answers. Safe to use from several threads."""

    def __init__(self, ports: Sequence[int], seed: int) -> None:
        self._ports = ports
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.answers: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}
        """The first text of an answer of each status but 200."""
        self.acknowledged: list[float] = []
        """When, by time.monotonic."""
        self.longest = 0.0
        """Seconds of the slowest answer."""

    def send(self, user: int, item: int, key: str) -> bool:
        """Whether the click was acknowledged."""
        with self._lock:
            port = self._random.choice(self._ports)
        began = time.monotonic()
        connection = http.client.HTTPConnection(HOST, port, timeout=GIVE_UP)
        headers = {"Content-Type": "application/json", "Connection": "close"}
        if key:
            headers["Idempotency-Key"] = key
        try:
            body = json.dumps({"items": [item]})
            connection.request("POST", f"/users/{user}/events", body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            status = str(answer.status)
            if status != "200":
                self.reasons.setdefault(status, text[:REASON])
            if status == "200" and answer.headers.get("Idempotent-Replayed"):
                status = "200, a repetition"
        except (OSError, http.client.HTTPException):
            status = "none"
        finally:
            connection.close()
        with self._lock:
            self.answers[status] += 1
            self.longest = max(self.longest, time.monotonic() - began)
            if status.startswith("200"):
                self.acknowledged.append(time.monotonic())
        return status.startswith("200")

    def send_until(self, user: int, item: int) -> None:
        """Send the click again, with one key, until it is acknowledged."""
        key, end = str(uuid.uuid4()), time.monotonic() + PATIENCE
        while not self.send(user, item, key):
            if time.monotonic() > end:
                raise RetrievalError(f"a click was not acknowledged within {PATIENCE:g} s")
            time.sleep(AGAIN)


class HistoryStore(Protocol):
    """Of which a benchmark reads what is stored: Redis or Milvus."""

    def read_all(self, users: Sequence[OwnId]) -> Mapping[OwnId, UserState]:
        """The states of those of ``users`` who are known."""
        ...


def repeats(caller: int) -> bool:
    """Whether ``caller`` sends a click again until it is acknowledged."""
    return caller % 2 == 0


def judged(store: HistoryStore, users: dict[int, UserClicks], callers: int) -> dict[str, int]:
    """What ``store`` holds beside what was acknowledged, counted over all users."""
    counts: Counter[str] = Counter()
    stored = store.read_all(list(users))
    for user, clicks in users.items():
        history: list[Any] = list(stored[user].history) if user in stored else []
        counts["acknowledged"] += len(clicks.acknowledged)
        counts["stored"] += len(history)
        missing: Counter[Any] = Counter(clicks.acknowledged) - Counter(history)
        further: Counter[Any] = Counter(history) - Counter(clicks.acknowledged)
        unsure: Counter[Any] = Counter(clicks.sent) - Counter(clicks.acknowledged)
        counts["lost"] += missing.total()
        counts["stored_unacknowledged"] += further.total() if not repeats(user % callers) else 0
        if repeats(user % callers):
            counts["added_twice"] += further.total()
        else:
            counts["not_sent"] += (further - unsure).total()
        in_order = iter(history)
        counts["out_of_order"] += not all(item in in_order for item in clicks.acknowledged)
    names = "acknowledged stored lost out_of_order added_twice not_sent stored_unacknowledged"
    return {name: counts[name] for name in names.split()}
