# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A client of the service, for Python."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ValidationError

from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.errors import UserError
from paddlerec_milvus.serving.ranking_schemas import RecommendAnswer
from paddlerec_milvus.serving.schemas import (
    SECONDS_PER_CANDIDATE,
    CandidatesAnswer,
    Consistency,
    CountAnswer,
    DeleteAnswer,
    EventsAnswer,
    InsertAnswer,
    ItemDeleteAnswer,
    ItemsAnswer,
    ReadyAnswer,
    RollbackAnswer,
    TitledItem,
    TitlesAnswer,
    UserDeleteAnswer,
)

Answer = TypeVar("Answer", bound=BaseModel)

BUILD_SECONDS = 4 * 3600.0  # an insert builds an index
RANKED = 1_000  # candidates of a user that a ranker orders; hardly one has as many


class ServiceError(UserError):
    """The service is away, refuses a call or answers with something else than a service's answer.

    ``status`` is that of the answer, None where there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """The calls of a service at ``url``. A context manager; or call :meth:`close`.

    ``key`` is one of its API keys; ``timeout`` seconds for a call; an insert, and candidates for
    many users, have more. All methods raise ServiceError. ``transport`` replaces the network.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str = "",
        timeout: float = 10.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers, self._timeout = {"X-API-Key": key} if key else {}, timeout
        self.url = url
        try:
            self._http = httpx.Client(
                base_url=url, headers=headers, timeout=timeout, transport=transport
            )
        except httpx.InvalidURL as error:
            raise ServiceError(f"{url!r} is no address of a service: {error}") from error

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def candidates(
        self,
        histories: Sequence[Iterable[OwnId]],
        top_k: int = 50,
        *,
        exclude_history: bool = True,
        exclude: Iterable[OwnId] = (),
        categories: Iterable[str] | None = None,
        diversity: float = 0.0,
        quota: int | None = None,
        titles: bool = False,
        nearest: bool = False,
        consistency: Consistency | None = None,
    ) -> CandidatesAnswer:
        """``top_k`` candidates for each history of item ids, oldest click first.

        Ids of items and users are the log's own, ints or strings.

        Of all items but ``exclude``, or of ``categories`` alone; ``diversity`` is the worth of a
        pair of different categories, ``quota`` the most that one interest may give. ``titles`` and
        ``nearest`` ask for the titles of candidates and the items nearest to each interest.
        """
        body = {
            "top_k": top_k,
            "hist_item": [list(map(_id, history)) for history in histories],
            "exclude_history": exclude_history,
            "exclude": list(map(_id, exclude)),
            "filter": None if categories is None else {"category": list(categories)},
            "diversity": diversity,
            "quota": quota,
            "titles": titles,
            "nearest": nearest,
            "consistency": consistency,
        }
        seconds = SECONDS_PER_CANDIDATE * len(histories) * top_k
        return self._call(CandidatesAnswer, "POST", "/candidates", more_seconds=seconds, json=body)

    def recommend(
        self,
        histories: Sequence[Iterable[OwnId]],
        top_k: int = 10,
        *,
        exclude: Iterable[OwnId] = (),
        categories: Iterable[str] | None = None,
        consistency: Consistency | None = None,
        explain: bool = False,
    ) -> RecommendAnswer:
        """The ``top_k`` best items of all channels for each history, ranked, and why.

        ``explain`` asks what moved the first 50 of each list, too.
        """
        body = {
            "top_k": top_k,
            "hist_item": [list(map(_id, history)) for history in histories],
            "exclude": list(map(_id, exclude)),
            "filter": None if categories is None else {"category": list(categories)},
            "consistency": consistency,
            "explain": explain,
        }
        seconds = SECONDS_PER_CANDIDATE * len(histories) * RANKED
        return self._call(RecommendAnswer, "POST", "/recommend", more_seconds=seconds, json=body)

    def user_recommendations(
        self,
        user: OwnId,
        top_k: int = 10,
        *,
        consistency: Consistency | None = None,
        explain: bool = False,
    ) -> RecommendAnswer:
        """A ranked list by the history that the service keeps of ``user``: one row."""
        options = {"top_k": top_k, "consistency": consistency, "explain": explain}
        params = {name: value for name, value in options.items() if value is not None}
        path = f"/users/{_in_path(user)}/recommendations"
        return self._call(RecommendAnswer, "GET", path, params=params)

    def titles(self, q: str = "", limit: int = 20) -> list[TitledItem]:
        """Items with all words of ``q`` in their titles, the most popular first."""
        return self._call(TitlesAnswer, "GET", "/titles", params={"q": q, "limit": limit}).items

    def insert(self) -> InsertAnswer:
        """Put the item vectors of the service's newest checkpoint into Milvus, and serve it."""
        return self._call(InsertAnswer, "POST", "/insert", BUILD_SECONDS)

    def rollback(self) -> RollbackAnswer:
        """Go back to the model before the last insert."""
        return self._call(RollbackAnswer, "POST", "/rollback")

    def ready(self) -> ReadyAnswer:
        """Whether candidates come from the model, and which one that is."""
        return self._parsed(ReadyAnswer, self._answer("GET", "/readyz", usable=503))

    def metrics(self) -> str:
        """All metrics of the process that answers, as Prometheus reads them."""
        return self._answer("GET", "/metrics").text

    def count(self) -> int:
        """How many item vectors are stored."""
        return self._call(CountAnswer, "GET", "/count").count

    def delete(self) -> int | None:
        """Delete them all; returns how many there were, where that can be told."""
        return self._call(DeleteAnswer, "DELETE", "/delete").deleted

    def upsert_items(
        self, items: Iterable[Mapping[str, Any]], *, checkpoint: str | None = None
    ) -> ItemsAnswer:
        """Store at most 1,000 new or changed items until the next insert.

        An item is ``{"id": 7, "vector": […], "category": "books"}`` or has ``features``, values by
        column, in place of the vector. ``checkpoint`` is the fingerprint of the model that made the
        vectors; where it is given, it must be the one that serves.
        """
        body = {"items": [_item(item) for item in items], "checkpoint": checkpoint}
        return self._call(ItemsAnswer, "POST", "/items", json=body)

    def delete_item(self, item: OwnId) -> OwnId:
        """Delete an item's vector until the next insert; returns its id."""
        return self._call(ItemDeleteAnswer, "DELETE", f"/items/{_in_path(item)}").deleted

    def add_events(
        self,
        user: OwnId,
        items: Iterable[OwnId],
        *,
        time: float | None = None,
        idempotency_key: str = "",
    ) -> EventsAnswer:
        """Add clicks, oldest first, to the history that the service keeps of ``user``.

        ``time`` in seconds since 1970 puts them before those that are later. With the same
        ``idempotency_key``, which is new for each event, the call may be made again after an error.
        """
        path = f"/users/{_in_path(user)}/events"
        body: dict[str, Any] = {"items": list(map(_id, items))}
        if time is not None:
            body["time"] = time
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else None
        return self._call(EventsAnswer, "POST", path, json=body, headers=headers)

    def user_candidates(
        self,
        user: OwnId,
        top_k: int = 50,
        *,
        exclude_history: bool = True,
        diversity: float = 0.0,
        quota: int | None = None,
        titles: bool = False,
        consistency: Consistency | None = None,
    ) -> CandidatesAnswer:
        """Candidates by the history that the service keeps of ``user``: one row."""
        options = {
            "top_k": top_k,
            "exclude_history": exclude_history,
            "diversity": diversity,
            "quota": quota,
            "titles": titles,
            "consistency": consistency,
        }
        params = {name: value for name, value in options.items() if value is not None}
        path = f"/users/{_in_path(user)}/candidates"
        return self._call(CandidatesAnswer, "GET", path, params=params)

    def delete_user(self, user: OwnId) -> OwnId:
        """Delete all that is stored of a user; returns the id."""
        return self._call(UserDeleteAnswer, "DELETE", f"/users/{_in_path(user)}").deleted

    def _call(
        self,
        kind: type[Answer],
        method: str,
        path: str,
        timeout: float | None = None,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        more_seconds: float = 0.0,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer as a ``kind``; ServiceError names the address and the path."""
        timeout = self._timeout if timeout is None else timeout
        allowed = httpx.Timeout(timeout + more_seconds)
        options = {"json": json, "params": params, "headers": headers, "timeout": allowed}
        return self._parsed(kind, self._answer(method, path, **options))

    def _answer(self, method: str, path: str, usable: int = 200, **options: Any) -> httpx.Response:
        """An answer that is no error, or of the status ``usable``."""
        try:
            answer = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise ServiceError(
                f"the candidate service at {self._http.base_url} did not answer {path}: "
                f"{error or type(error).__name__}. Is it running?"
            ) from error
        if answer.is_error and answer.status_code != usable:
            raise ServiceError(
                f"the candidate service at {self._http.base_url} refused {path} with "
                f"{answer.status_code}: {answer.text:.1000}",
                answer.status_code,
            )
        return answer

    def _parsed(self, kind: type[Answer], answer: httpx.Response) -> Answer:
        try:
            return kind.model_validate_json(answer.content)
        except ValidationError as error:
            raise ServiceError(
                f"{answer.url} answered {answer.status_code} with something else than a candidate "
                f"service of this version does: {answer.text[:200]!r}. Is there another program?",
                answer.status_code,
            ) from error


def _item(item: Mapping[str, Any]) -> dict[str, Any]:
    """``item`` with its id and its vector as JSON takes them."""
    item = {**item, "id": _id(item["id"])} if "id" in item else item
    if item.get("vector") is None:
        return dict(item)
    return {**item, "vector": _numbers(item["vector"])}


def _id(own: OwnId) -> OwnId:
    """An id as JSON takes it: a string, or an int, of numpy too."""
    return str(own) if isinstance(own, str) else int(own)


def _in_path(own: OwnId) -> str:
    return quote(str(_id(own)), safe="")


def _numbers(vector: ArrayLike) -> list[float]:
    numbers: list[float] = np.asarray(vector, np.float64).tolist()
    return numbers
