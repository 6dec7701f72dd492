# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a failed call is called: refused for good, for now, or not answered at all."""

from __future__ import annotations

import pytest
from pymilvus.exceptions import MilvusException

from paddlerec_milvus.errors import RefusedError, RetrievalError
from paddlerec_milvus.retrieval.connection import Connection


def error_of(lite_uri: str, problem: Exception) -> RetrievalError:
    """What becomes of ``problem`` when pymilvus raises it."""

    def fail(*arguments: object, **options: object) -> None:
        raise problem

    connection = Connection(lite_uri)
    connection._client.query = fail
    try:
        with pytest.raises(RetrievalError) as caught:
            connection.call("query", "items")
        return caught.value
    finally:
        del connection._client.query
        connection.close()


@pytest.mark.parametrize(
    ("reason", "retriable"),
    [
        ("find no available rootcoord, check rootcoord state", False),
        ("find no available querycoord, check querycoord state", False),
        ("no available shard leader found", False),
        ("service not ready[rootcoord=3]: Initializing", False),
        ("channel not available[channel=by-dev-rootcoord-dml_3]", False),
        ("node offline[node=12]", False),
        ("collection not fully loaded[collection=449]", False),
        ("request is rejected by grpc RateLimiter middleware, please retry later", True),
    ],
)
def test_what_may_pass_is_no_refusal(lite_uri: str, reason: str, retriable: bool) -> None:
    error = error_of(lite_uri, MilvusException(65535, reason, retriable=retriable))
    assert not isinstance(error, RefusedError)
    assert "Try again" in str(error)
    assert reason in str(error)


@pytest.mark.parametrize("reason", ["collection not found[collection=items]", "no such field"])
def test_what_does_not_pass_is_one(lite_uri: str, reason: str) -> None:
    assert isinstance(error_of(lite_uri, MilvusException(100, reason)), RefusedError)
