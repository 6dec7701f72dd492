# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Items stored and deleted while a service fails; does Milvus hold what was acknowledged?"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import httpx
import numpy as np

from fault_table.click_sender import GIVE_UP, REASON
from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.retrieval.milvus import MilvusRetriever

PAUSE = 0.2  # seconds between two writes
DELETED_OF = 4  # every so many writes is a DELETE


class ItemWriter:
    """Writes each of ``items`` (own ids, by number) once to the service at ``url``, in a thread.

    A write is the item's end, or a new vector [D] at right angles to all ``interests`` [n, D], n
    below D: so it comes into no list of theirs. Begins with :meth:`start`.
    """

    def __init__(self, url: str, items: Mapping[int, OwnId], interests: FloatArray) -> None:
        self.answers: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}
        """The first text of an answer of each status but 200."""
        self.longest = 0.0
        self._url, self._items = url, items
        self._base = np.linalg.qr(interests.T.astype(np.float64))[0]
        self._acknowledged: dict[int, FloatArray | None] = {}
        """By number; None: deleted."""
        self._unsure: dict[int, FloatArray | None] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="items")

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the write that is under way."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=GIVE_UP) as http:
            for place, (number, own) in enumerate(self._items.items()):
                if self._end.wait(PAUSE):
                    return
                vector = None if place % DELETED_OF == 0 else self._vector(number)
                status = self._send(http, own, vector)
                self.answers[status] += 1
                (self._acknowledged if status == "200" else self._unsure)[number] = vector

    def _vector(self, number: int) -> FloatArray:
        draw = np.random.default_rng(number).standard_normal(len(self._base))
        draw -= self._base @ (self._base.T @ draw)
        return np.asarray(draw / np.linalg.norm(draw), np.float32)

    def _send(self, http: httpx.Client, own: OwnId, vector: FloatArray | None) -> str:
        began = time.monotonic()
        try:
            if vector is None:
                answer = http.delete(f"/items/{own}")
            else:
                item = {"id": own, "vector": vector.astype(np.float64).tolist()}
                answer = http.post("/items", json={"items": [item]})
        except httpx.HTTPError:
            return "none"
        self.longest = max(self.longest, time.monotonic() - began)
        status = str(answer.status_code)
        if status != "200":
            self.reasons.setdefault(status, answer.text[:REASON])
        return status

    def stored(self, retriever: MilvusRetriever, total: int) -> tuple[int, int, list[str]]:
        """How many writes were acknowledged, how many are stored, and what else is wrong.

        ``total`` items were there before.
        """
        numbers = [*self._acknowledged, *self._unsure]
        vectors = retriever.stored_vectors(numbers)
        right = sum(_same(vectors.get(n), vector) for n, vector in self._acknowledged.items())
        count, deleted = retriever.count(), [n for n in numbers if n not in vectors]
        problems = []
        if count != total - len(deleted):
            problems.append(f"{count} items are counted, {total - len(deleted)} expected")
        if no_reason := [n for n in deleted if self._outcome(n) is not None]:
            problems.append(f"{len(no_reason)} items are gone that nobody deleted")
        return len(self._acknowledged), right, problems

    def _outcome(self, number: int) -> FloatArray | None:
        return {**self._unsure, **self._acknowledged}[number]


def _same(stored: Sequence[float] | FloatArray | None, vector: FloatArray | None) -> bool:
    if stored is None or vector is None:
        return stored is None and vector is None
    return bool((np.asarray(stored, np.float32) == vector).all())
