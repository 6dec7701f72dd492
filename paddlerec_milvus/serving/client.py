# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A client of the service, for Python."""

from __future__ import annotations

import types
from collections.abc import Iterable, Sequence
from typing import Any

import httpx

from paddlerec_milvus.errors import UserError
from paddlerec_milvus.serving.schemas import (
    CandidatesAnswer,
    CountAnswer,
    DeleteAnswer,
    InsertAnswer,
)

BUILD_SECONDS = 4 * 3600.0  # an insert builds an index


class ServiceError(UserError):
    """The service is away, or refuses a call."""


class Client:
    """The four calls of a service at ``url``. A context manager; or call :meth:`close`.

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

    def insert(self) -> InsertAnswer:
        """Put the item vectors of the service's checkpoint into Milvus."""
        return InsertAnswer.model_validate_json(self._call("POST", "/insert", BUILD_SECONDS))

    def candidates(
        self,
        histories: Sequence[Iterable[int]],
        top_k: int = 50,
        *,
        exclude_history: bool = True,
        exclude: Iterable[int] = (),
        titles: bool = False,
    ) -> CandidatesAnswer:
        """``top_k`` candidates for each history of item ids, oldest click first."""
        body = {
            "top_k": top_k,
            "hist_item": [[int(item) for item in history] for history in histories],
            "exclude_history": exclude_history,
            "exclude": [int(item) for item in exclude],
            "titles": titles,
        }
        return CandidatesAnswer.model_validate_json(self._call("POST", "/candidates", json=body))

    def count(self) -> int:
        """How many item vectors are stored."""
        return CountAnswer.model_validate_json(self._call("GET", "/count")).count

    def delete(self) -> int | None:
        """Delete them all; returns how many there were, where that can be told."""
        return DeleteAnswer.model_validate_json(self._call("DELETE", "/delete")).deleted

    def _call(
        self, method: str, path: str, timeout: float | None = None, json: Any = None
    ) -> bytes:
        allowed = self._http.timeout if timeout is None else httpx.Timeout(timeout)
        try:
            answer = self._http.request(method, path, json=json, timeout=allowed)
        except httpx.HTTPError as error:
            raise ServiceError(
                f"the candidate service at {self._http.base_url} did not answer {path}: "
                f"{error or type(error).__name__}. Is it running?"
            ) from error
        if answer.is_error:
            raise ServiceError(
                f"the candidate service at {self._http.base_url} refused {path} with "
                f"{answer.status_code}: {answer.text:.1000}"
            )
        return answer.content
