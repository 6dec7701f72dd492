# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The services whose model an update replaces: which one answers, and are its lists right."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import httpx
import numpy as np

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.data.id_map import IdMap, OwnId, read_item_ids
from paddlerec_milvus.errors import UserError, redacted
from paddlerec_milvus.evaluation.metrics import index_recall
from paddlerec_milvus.export.exported_model import ExportedModel
from paddlerec_milvus.export.manifest import ExportManifest
from paddlerec_milvus.serving.client import Client, ServiceError
from paddlerec_milvus.serving.health import AWAY, FAILING, STARTING
from paddlerec_milvus.serving.schemas import InsertAnswer, ReadyAnswer
from paddlerec_milvus.update.export_lists import ExportLists
from paddlerec_milvus.update.traffic import Traffic, traffic_of

SAMPLED_USERS, RANKED_USERS = 100, 10
USERS_IN_CALL = 10  # they count among the requests that are watched
MOST_CLICKS = 100  # of a history that is sent
TOP_K = 50
FOLLOW_SECONDS = 60.0  # in which all processes have come to what Milvus' alias points at
BUSY_SECONDS = 600.0  # for another insert, such as that of a killed run, to end
PAUSE = 0.5
PASSING = tuple(state.reason for state in (STARTING, AWAY, FAILING))  # why it is not ready
NO_USER = "x" * 600  # an id of no kind: a call with it does nothing, whoever makes it
NO_RIGHTS = (401, 403)


Reply = TypeVar("Reply")


class WrongModelError(UserError):
    """A service does not answer as the new export would."""


class ServiceReplicas:
    """Services at ``urls`` on one Milvus; the first is told to insert and to go back.

    A context manager; ``key`` has the role admin, ``transport`` replaces the network. Raises
    ServiceError.
    """

    def __init__(
        self, urls: Sequence[str], key: str, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._clients = [Client(url, key=key, transport=transport) for url in urls]

    def __enter__(self) -> ServiceReplicas:
        return self

    def __exit__(self, *problem: object) -> None:
        for client in self._clients:
            client.close()

    def require_rights(self) -> None:
        """ServiceError: one is away, or the key may not do all that an update does."""
        for client in self._clients:
            client.metrics()
        try:
            self._clients[0].delete_user(NO_USER)
        except ServiceError as error:
            if error.status in NO_RIGHTS:
                raise ServiceError(
                    f"{self._clients[0].url} refused the key with {error.status}: SERVING_KEY must "
                    "hold one of the role admin, for /insert and /rollback",
                    error.status,
                ) from None
            if error.status != 422:
                raise

    def served(self) -> str:
        """Key of the model by which the first one answers; empty: it needs an insert to answer.

        Waits while Milvus is away. ServiceError: it stays so, and what the service says.
        """
        return _within(partial(_served, self._clients[0]))

    def traffic(self) -> dict[str, Traffic]:
        """What all have counted since they were started, by their URLs."""
        return {redacted(client.url): traffic_of(client.metrics()) for client in self._clients}

    def insert(self) -> InsertAnswer:
        """Let the first one insert; one that is under way is waited for."""
        return self._when_free(self._clients[0].insert)

    def roll_back(self, key: str) -> None:
        """Let the model before ``key`` serve again. ServiceError: another than ``key`` serves."""
        now = self.served()
        if now != key:
            raise ServiceError(
                f"{now or 'no model'} serves, not {key}, which the update inserted: somebody else "
                "has changed it, and it is left so"
            )
        self._when_free(self._clients[0].rollback)

    def _when_free(self, call: Callable[[], Reply]) -> Reply:
        end = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                return call()
            except ServiceError as error:
                is_busy = error.status == 409 and "wait for it" in str(error)
                if not is_busy or time.monotonic() > end:
                    raise
                time.sleep(PAUSE)

    def require_lists(
        self, export: ExportedModel, users: HeldOutUsers, items: IdMap, least_recall: float
    ) -> str:
        """That all answer as ``export`` does, in a line; waits until they have come to it.

        WrongModelError: one does not, or does not answer, or its index finds less than
        ``least_recall``.
        """
        sample = SampleLists(export, users, items)
        try:
            return "; ".join(
                f"{client.url}: {_within(partial(sample.compared, client, least_recall))}"
                for client in self._clients
            )
        except ServiceError as error:
            if error.status in NO_RIGHTS:
                raise
            raise WrongModelError(str(error)) from None


def _within(check: Callable[[], Reply]) -> Reply:
    """What ``check`` returns, once it raises neither WrongModelError nor ServiceError any more.

    At the end of the time it is raised; at once where the key lacks the rights.
    """
    end = time.monotonic() + FOLLOW_SECONDS
    while True:
        try:
            return check()
        except (WrongModelError, ServiceError) as error:
            is_final = isinstance(error, ServiceError) and error.status in NO_RIGHTS
            if is_final or time.monotonic() > end:
                raise
            time.sleep(PAUSE)


class SampleLists:
    """What ``export`` gives to some of ``users``, by exact search, and what a service gives."""

    def __init__(self, export: ExportedModel, users: HeldOutUsers, items: IdMap) -> None:
        """``items`` are what the log of ``users`` calls its items."""
        self._manifest = export.manifest
        lists = ExportLists(export, items, 1 + max(export.manifest.items, users.largest_item()))
        ids = read_item_ids(export.data)
        rows = [row[-MOST_CLICKS:] for row in lists.translated(users) if len(row)]
        rows = rows[:SAMPLED_USERS]
        self._exact = lists.candidates(rows, TOP_K)
        self._histories: list[list[OwnId]] = [ids.own_ids(row.tolist()) for row in rows]
        self._ids = ids

    def compared(self, client: Client, least_recall: float) -> str:
        """Its lists beside these, in a line. WrongModelError: they are of another model."""
        _require_model(client, self._manifest)
        if not self._histories:
            return "no user of the test data has a history that the model knows"
        served = np.full_like(self._exact, -1)
        for start in range(0, len(served), USERS_IN_CALL):
            answer = client.candidates(self._histories[start : start + USERS_IN_CALL], TOP_K)
            if others := {*answer.source} - {"model"}:
                raise WrongModelError(f"{client.url}: lists come from {', '.join(sorted(others))}")
            for row, listed in enumerate(answer.candidates, start):
                numbers = [self._ids.number(own) or -1 for own in listed]
                served[row, : len(numbers)] = numbers
        recall = float(index_recall(served, self._exact).mean())
        same = int((served == self._exact).all(axis=1).sum())
        if recall < least_recall:
            raise WrongModelError(
                f"{client.url}: its lists hold {recall:.3f} of what exact search finds, less than "
                f"{least_recall:g}: raise ef or nprobe of its index"
            )
        text = f"{same} of {len(served)} lists equal exact search's, index_recall {recall:.3f}"
        if self._manifest.ranker:
            text += f", {self._ranked(client)} ranked"
        return text

    def _ranked(self, client: Client) -> int:
        answer = client.recommend(self._histories[:RANKED_USERS])
        if others := {*answer.source} - {"ranked"}:
            raise WrongModelError(f"{client.url}: ranked lists are {', '.join(sorted(others))}")
        if answer.ranker != self._manifest.ranker:
            raise WrongModelError(f"{client.url}: the ranker {answer.ranker} answers")
        return len(answer.source)


def _require_model(client: Client, manifest: ExportManifest) -> None:
    ready = client.ready()
    if _key(ready) != manifest.key:
        raise WrongModelError(
            f"{client.url}: {_key(ready) or ready.reason} answers, not {manifest.key}"
        )


def _served(client: Client) -> str:
    ready = client.ready()
    if not ready.ready and ready.reason in PASSING:
        raise ServiceError(f"{client.url} is not ready: {ready.reason}")
    return _key(ready)


def _key(ready: ReadyAnswer) -> str:
    """What tells the model that answers from all others; empty: none does."""
    return ready.key if ready.ready else ""
