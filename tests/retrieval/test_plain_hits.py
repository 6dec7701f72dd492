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
