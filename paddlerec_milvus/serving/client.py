# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A client of the service, for Python."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import httpx
import numpy as np
from numpy.typing import ArrayLike

from paddlerec_milvus.errors import UserError
from paddlerec_milvus.serving.schemas import (
    CandidatesAnswer,
    Consistency,
    CountAnswer,
    DeleteAnswer,
    EventsAnswer,
    InsertAnswer,
    ItemDeleteAnswer,
    ItemsAnswer,
    RollbackAnswer,
    TitledItem,
    TitlesAnswer,
    UserDeleteAnswer,
)

BUILD_SECONDS = 4 * 3600.0  # an insert builds an index


class ServiceError(UserError):
    """The service is away, or refuses a call; ``status`` is then that of its answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """The calls of a service at ``url``. A context manager; or call :meth:`close`.

    ``key`` is one of its API keys; ``timeout`` seconds for a call, except an insert. All methods
    raise ServiceError. ``transport`` replaces the network.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str = "",
        timeout: float = 10.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"X-API-Key": key} if key else {}
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=timeout, transport=transport
        )

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
        histories: Sequence[Iterable[int]],
        top_k: int = 50,
        *,
        exclude_history: bool = True,
        exclude: Iterable[int] = (),
        categories: Iterable[str] | None = None,
        diversity: float = 0.0,
        quota: int | None = None,
        titles: bool = False,
        nearest: bool = False,
        consistency: Consistency | None = None,
    ) -> CandidatesAnswer:
        """``top_k`` candidates for each history of item ids, oldest click first.

        Of all items but ``exclude``, or of ``categories`` alone; ``diversity`` is the worth of a
        pair of different categories, ``quota`` the most that one interest may give. ``titles`` and
        ``nearest`` ask for the titles of candidates and the items nearest to each interest.
        """
        body = {
            "top_k": top_k,
            "hist_item": [[int(item) for item in history] for history in histories],
            "exclude_history": exclude_history,
            "exclude": [int(item) for item in exclude],
            "filter": None if categories is None else {"category": list(categories)},
            "diversity": diversity,
            "quota": quota,
            "titles": titles,
            "nearest": nearest,
            "consistency": consistency,
        }
        return CandidatesAnswer.model_validate_json(self._call("POST", "/candidates", json=body))

    def titles(self, q: str = "", limit: int = 20) -> list[TitledItem]:
        """Items with all words of ``q`` in their titles, the most popular first."""
        content = self._call("GET", "/titles", params={"q": q, "limit": limit})
        return TitlesAnswer.model_validate_json(content).items

    def insert(self) -> InsertAnswer:
        """Put the item vectors of the service's newest checkpoint into Milvus, and serve it."""
        return InsertAnswer.model_validate_json(self._call("POST", "/insert", BUILD_SECONDS))

    def rollback(self) -> RollbackAnswer:
        """Go back to the model before the last insert."""
        return RollbackAnswer.model_validate_json(self._call("POST", "/rollback"))

    def count(self) -> int:
        """How many item vectors are stored."""
        return CountAnswer.model_validate_json(self._call("GET", "/count")).count

    def delete(self) -> int | None:
        """Delete them all; returns how many there were, where that can be told."""
        return DeleteAnswer.model_validate_json(self._call("DELETE", "/delete")).deleted

    def upsert_items(
        self, items: Iterable[Mapping[str, Any]], *, checkpoint: str | None = None
    ) -> ItemsAnswer:
        """Store at most 1,000 new or changed items until the next insert.

        An item is ``{"id": 7, "vector": […], "category": "books"}`` or has ``features``, values by
        column, in place of the vector. ``checkpoint`` is the fingerprint of the model that made the
        vectors; where it is given, it must be the one that serves.
        """
        body = {"items": [_item(each) for each in items], "checkpoint": checkpoint}
        return ItemsAnswer.model_validate_json(self._call("POST", "/items", json=body))

    def delete_item(self, item: int) -> int:
        """Delete an item's vector until the next insert; returns its id."""
        content = self._call("DELETE", f"/items/{int(item)}")
        return ItemDeleteAnswer.model_validate_json(content).deleted

    def add_events(self, user: int, items: Iterable[int]) -> EventsAnswer:
        """Add clicks, oldest first, to the history that the service keeps of ``user``."""
        body = {"items": [int(item) for item in items]}
        content = self._call("POST", f"/users/{int(user)}/events", json=body)
        return EventsAnswer.model_validate_json(content)

    def user_candidates(
        self,
        user: int,
        top_k: int = 50,
        *,
        exclude_history: bool = True,
        diversity: float = 0.0,
        quota: int | None = None,
        titles: bool = False,
        consistency: Consistency | None = None,
    ) -> CandidatesAnswer:
        """Candidates by the history that the service keeps of ``user``: one row."""
        asked = {
            "top_k": top_k,
            "exclude_history": exclude_history,
            "diversity": diversity,
            "quota": quota,
            "titles": titles,
            "consistency": consistency,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        content = self._call("GET", f"/users/{int(user)}/candidates", params=given)
        return CandidatesAnswer.model_validate_json(content)

    def delete_user(self, user: int) -> int:
        """Delete all that is stored of a user; returns the id."""
        content = self._call("DELETE", f"/users/{int(user)}")
        return UserDeleteAnswer.model_validate_json(content).deleted

    def _call(
        self,
        method: str,
        path: str,
        timeout: float | None = None,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
    ) -> bytes:
        allowed = self._http.timeout if timeout is None else httpx.Timeout(timeout)
        try:
            answer = self._http.request(method, path, json=json, params=params, timeout=allowed)
        except httpx.HTTPError as error:
            raise ServiceError(
                f"the candidate service at {self._http.base_url} did not answer {path}: "
                f"{error or type(error).__name__}. Is it running?"
            ) from error
        if answer.is_error:
            raise ServiceError(
                f"the candidate service at {self._http.base_url} refused {path} with "
                f"{answer.status_code}: {answer.text:.1000}",
                answer.status_code,
            )
        return answer.content


def _item(given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` with its vector as JSON takes it."""
    item = dict(given)
    if item.get("vector") is not None:
        item["vector"] = _numbers(item["vector"])
    return item


def _numbers(vector: ArrayLike) -> list[float]:
    numbers: list[float] = np.asarray(vector, np.float64).tolist()
    return numbers
