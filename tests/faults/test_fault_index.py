# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""An index that finds less than it did: the probe's gauge falls, and the service warns of it."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from in_process import TinyEncoder, in_process_app
from running_service import until

from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.retrieval.indexes import IvfFlat
from paddlerec_milvus.retrieval.milvus import MilvusRetriever

pytestmark = [pytest.mark.server, pytest.mark.slow]

ITEMS, DIMENSION, CELLS = 8_000, 32, 256


class LargeEncoder(TinyEncoder):
    """The same for a catalogue that a server does index."""

    items = ITEMS

    def __init__(self) -> None:
        super().__init__(DIMENSION)
        vectors = np.random.default_rng(7).normal(size=(ITEMS + 1, DIMENSION))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self._vectors = vectors.astype(np.float32)


def test_one_cell_of_256_is_noticed_and_so_is_its_end(server, caplog):
    caplog.set_level(logging.INFO, "paddlerec_milvus")
    encoder = LargeEncoder()
    whole, one = IvfFlat(nlist=CELLS, nprobe=CELLS), IvfFlat(nlist=CELLS, nprobe=1)
    with MilvusRetriever(server.uri, "faults_index", index=whole) as retriever:
        retriever.versions.build(encoder.item_vectors()[1:], np.arange(1, ITEMS + 1))
        settings = {"recall_seconds": 0.5, "least_recall": 0.5}
        with in_process_app(retriever, encoder, Catalogue(ITEMS), **settings) as service:

            def recall() -> float:
                return service.metric("serving_index_recall")

            until(lambda: recall() == 1.0)
            assert service.http.get("/readyz").json()["warnings"] == []
            retriever.index = one
            until(lambda: recall() < 0.5)
            print(f"index_recall@50: 1 before, {recall():.3f} by one cell of {CELLS}")
            assert recall() > 0
            answer = service.http.get("/readyz")
            assert answer.status_code == 200
            assert "below SERVING_LEAST_RECALL=0.5" in answer.json()["warnings"][0]
            assert answer.json()["warnings"][0] in caplog.text
            retriever.index = whole
            until(lambda: recall() == 1.0)
            assert service.http.get("/readyz").json()["warnings"] == []
        retriever.versions.drop()
