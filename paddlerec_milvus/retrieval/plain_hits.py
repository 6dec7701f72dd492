# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Hits of a search as arrays. pymilvus makes a dict of each, which takes most of a large search."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from paddlerec_milvus.retrieval.base import FloatArray, IntArray


class PlainHits(NamedTuple):
    """What one query found, best first."""

    ids: IntArray
    """[n]"""
    distances: FloatArray
    """[n]"""


def answer_in_arrays(client: Any) -> None:
    """Let searches of ``client``, a MilvusClient of a server, return a PlainHits for each query.

    Their ids must be ints. Searches that ask for fields return what they did. pymilvus has
    no option for it: the method of its connection that sends a search and reads the answer is
    replaced, below its retries. Where a release of pymilvus has none, all is as it was.
    """
    try:
        from pymilvus.client.call_context import _api_level_md
        from pymilvus.client.utils import check_status
        from pymilvus.exceptions import MilvusException

        connection = client._get_connection()
        usual = connection._execute_search
    except (ImportError, AttributeError):
        return

    def search(
        request: Any, timeout: float | None = None, context: Any = None, **options: Any
    ) -> Any:
        if request.output_fields:
            return usual(request, timeout, context=context, **options)
        # the stub is another one after pymilvus has connected again
        answer = connection._stub.Search(request, timeout=timeout, metadata=_api_level_md(context))
        if answer is None:  # it was cancelled as it came
            raise MilvusException(message="no answer to a search")
        check_status(answer.status)
        ids = np.array(answer.results.ids.int_id.data, np.int64)
        distances = np.array(answer.results.scores, np.float32)
        ends = list(accumulate(answer.results.topks, initial=0))
        return [PlainHits(ids[start:end], distances[start:end]) for start, end in pairwise(ends)]

    connection._execute_search = search
