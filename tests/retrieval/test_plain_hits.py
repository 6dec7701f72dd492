# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Hits that come as arrays are those that pymilvus makes dicts of."""

from __future__ import annotations

import numpy as np
import pytest
from pymilvus import MilvusClient

from paddlerec_milvus.retrieval.plain_hits import PlainHits, answer_in_arrays

from .conftest import clustered

IDS = np.arange(1, 201)
VECTORS = clustered(200, 8, seed=1)


@pytest.mark.server
@pytest.mark.parametrize("filter_", ["", "item < 4", "item > 900"])
def test_hits_of_a_server_are_those_of_pymilvus(server, make_retriever, filter_):
    retriever = make_retriever(server.uri)
    retriever.versions.build(VECTORS, IDS)
    asked = {"limit": 5, "filter": filter_, "consistency_level": "Strong"}
    called = retriever._connection.call("search", retriever.collection, list(VECTORS[:3]), **asked)
    client = MilvusClient(server.uri)
    plain = client.search(retriever.collection, list(VECTORS[:3]), **asked)
    client.close()
    assert all(isinstance(hits, PlainHits) for hits in called)
    assert [hits.ids.tolist() for hits in called] == [list(hits.ids) for hits in plain]
    assert [hits.distances.tolist() for hits in called] == [list(hits.distances) for hits in plain]


def test_a_pymilvus_without_the_method_is_left_as_it_is():
    class Client:
        def _get_connection(self) -> object:
            return object()

    answer_in_arrays(Client())


@pytest.mark.server
def test_a_search_by_a_requests_request_is_the_one_that_pymilvus_would_send(server, make_retriever):
    retriever = make_retriever(server.uri)
    retriever.versions.build(VECTORS, IDS)
    client = retriever._connection._client
    stub, requests = client._get_connection()._stub, []
    real = stub.Search
    stub.Search = lambda request, **how: requests.append(request) or real(request, **how)
    for queries, k, consistency in (
        (VECTORS[:1], 5, "Strong"),
        (VECTORS[3:9], 5, "Strong"),  # by the request before
        (VECTORS[3:9], 6, "Strong"),
        (VECTORS[2:4], 5, "Bounded"),
        (VECTORS[4:5], 5, "Bounded"),
    ):
        first = retriever.search(queries, k, consistency=consistency)
        kept = requests.pop()
        client.search.__self__._requests.clear()
        second = retriever.search(queries, k, consistency=consistency)
        assert kept == requests.pop()
        assert np.array_equal(first.ids, second.ids)
        assert np.array_equal(first.scores, second.scores)


@pytest.mark.server
def test_where_a_requests_request_fails_pymilvus_makes_it_anew(server, make_retriever):
    retriever = make_retriever(server.uri)
    retriever.versions.build(VECTORS, IDS)
    before = retriever.search(VECTORS[:2], 5, consistency="Strong")
    searches = retriever._connection._client.search.__self__
    kept = dict(searches._requests)
    assert len(kept) == 1
    for kind, (_, group, context) in kept.items():
        searches._requests[kind] = b"damaged", group, context
    after = retriever.search(VECTORS[:2], 5, consistency="Strong")
    assert np.array_equal(before.ids, after.ids)
    assert {kind: one[:2] for kind, one in searches._requests.items()} == {
        kind: one[:2] for kind, one in kept.items()
    }


@pytest.mark.server
def test_a_requests_request_searches_what_its_alias_points_at_now(server, make_retriever):
    retriever = make_retriever(server.uri)
    retriever.versions.build(VECTORS, IDS)
    assert retriever.search(VECTORS[:1], 1, consistency="Strong").ids[0, 0] == 1
    retriever.versions.build(VECTORS, IDS + 500)
    assert retriever.search(VECTORS[:1], 1, consistency="Strong").ids[0, 0] == 501
