# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Searches of a Milvus server with little work around them: kept requests, hits as arrays.

pymilvus makes a dict of each hit, which takes most of a large search, and for each search the same
request anew, which takes some 0.2 ms of a small one.
"""

from __future__ import annotations

import threading
import time
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from paddlerec_milvus.retrieval.base import FloatArray, IntArray

REPEATED_LEVELS = ("Strong", "Bounded", "Eventually")  # of Session each request names another time
MOST_KINDS = 1_024


class PlainHits(NamedTuple):
    """What one query found, best first."""

    ids: IntArray
    """[n]"""
    distances: FloatArray
    """[n]"""


def answer_in_arrays(client: Any) -> None:
    """Let searches of ``client``, a MilvusClient of a server, return a PlainHits for each query.

    Their ids must be ints, their vectors float32. Searches that ask for fields return what they
    did. pymilvus has no option for it: the method of its connection that sends a search and reads
    the answer is replaced, below its retries, and the client's ``search``, which sends the request
    of one before that differed in its vectors alone. Where a release of pymilvus has no such
    methods, all is as it was.
    """
    try:
        _PlainSearches(client)
    except (ImportError, AttributeError):
        return


class _PlainSearches:
    """The searches of one client: what stands in the place of pymilvus' methods."""

    def __init__(self, client: Any) -> None:
        from pymilvus.client.call_context import _api_level_md
        from pymilvus.client.utils import check_status
        from pymilvus.exceptions import MilvusException
        from pymilvus.grpc_gen.common_pb2 import PlaceholderGroup
        from pymilvus.grpc_gen.milvus_pb2 import SearchRequest

        self._metadata, self._check, self._problem = _api_level_md, check_status, MilvusException
        self._group, self._search_request = PlaceholderGroup, SearchRequest
        self._connection = client._get_connection()
        self._usual_sent, self._usual = self._connection._execute_search, client.search
        self._last = threading.local()  # what this thread has sent
        self._requests: dict[tuple[str, ...], tuple[bytes, bytes, Any]] = {}
        self._connection._execute_search, client.search = self.sent, self.search

    def search(
        self, collection: str, vectors: list[FloatArray], *, timeout: float, **options: Any
    ) -> Any:
        """``MilvusClient.search``: by the request of one before, if there is one of its kind.

        Where that fails, pymilvus makes and tries it anew in what is left of ``timeout`` seconds.
        """
        level = options.get("consistency_level")
        if options.get("filter") or level not in REPEATED_LEVELS:
            return self._usual(collection, vectors, timeout=timeout, **options)
        kind, end = (collection, *map(str, options.items())), time.monotonic() + timeout
        if kind in self._requests:
            try:
                return self._again(*self._requests[kind], vectors, timeout)
            except Exception:
                if (timeout := end - time.monotonic()) <= 0:
                    raise
        self._requests.pop(kind, None)
        self._last.sent = None
        hits = self._usual(collection, vectors, timeout=timeout, **options)
        self._remember(kind)
        return hits

    def sent(
        self, request: Any, timeout: float | None = None, context: Any = None, **options: Any
    ) -> Any:
        """``_execute_search`` of the connection."""
        if request.output_fields:
            return self._usual_sent(request, timeout, context=context, **options)
        self._last.sent = request, context
        return self._hits(request, timeout, context)

    def _hits(self, request: Any, timeout: float | None, context: Any) -> list[PlainHits]:
        # the stub is another one after pymilvus has connected again
        answer = self._connection._stub.Search(
            request, timeout=timeout, metadata=self._metadata(context)
        )
        if answer is None:  # it was cancelled as it came
            raise self._problem(message="no answer to a search")
        self._check(answer.status)
        ids = np.array(answer.results.ids.int_id.data, np.int64)
        distances = np.array(answer.results.scores, np.float32)
        ends = list(accumulate(answer.results.topks, initial=0))
        return [PlainHits(ids[start:end], distances[start:end]) for start, end in pairwise(ends)]

    def _remember(self, kind: tuple[str, ...]) -> None:
        """Keep the request that this thread has just sent, without its vectors."""
        if (sent := self._last.sent) is None:
            return
        request, group = self._search_request(), self._group.FromString(sent[0].placeholder_group)
        del group.placeholders[0].values[:]
        request.CopyFrom(sent[0])
        request.placeholder_group = b""
        if len(self._requests) >= MOST_KINDS:
            self._requests.clear()
        self._requests[kind] = request.SerializeToString(), group.SerializeToString(), sent[1]

    def _again(
        self, request: bytes, group: bytes, context: Any, vectors: list[FloatArray], timeout: float
    ) -> list[PlainHits]:
        filled, renewed = self._group.FromString(group), self._search_request.FromString(request)
        filled.placeholders[0].values.extend(vector.tobytes() for vector in vectors)
        renewed.placeholder_group, renewed.nq = filled.SerializeToString(), len(vectors)
        return self._hits(renewed, timeout, context)
