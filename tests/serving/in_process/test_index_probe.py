# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The service measures the index_recall of what serves, and how soon a written item is seen."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
from in_process import ITEMS, SmallIndex, TinyEncoder, in_process_app
from running_service import until

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.evaluation.index_check import recall_as_stored
from paddlerec_milvus.retrieval.base import MISSING_ID
from paddlerec_milvus.retrieval.exact import ExactRetriever

VECTORS = TinyEncoder().item_vectors()


class LossyIndex(SmallIndex):
    """Leaves the items above ``most`` out of every search."""

    most = ITEMS

    def search(self, queries, k, **options):
        hits = super().search(queries, k, **options)
        ids = np.where(hits.ids > self.most, MISSING_ID, hits.ids)
        return hits._replace(ids=ids)


@pytest.fixture
def lossy() -> LossyIndex:
    return LossyIndex(VECTORS)


def probed(service, count: int) -> None:
    name = "serving_index_recall_probes_total"
    until(lambda: service.metric(name, outcome="done") >= count)


def test_a_recall_that_falls_is_a_gauge_a_line_and_a_warning_of_readyz(lossy, caplog):
    caplog.set_level(logging.INFO, "paddlerec_milvus")
    with in_process_app(lossy, recall_seconds=0.05, least_recall=0.6) as service:
        probed(service, 1)
        assert service.metric("serving_index_recall") == 1
        assert service.metric("serving_index_recall_timestamp_seconds") > 1e9
        answer = service.http.get("/readyz").json()
        assert (answer["index_recall"], answer["warnings"]) == (1, [])

        lossy.most = ITEMS // 4  # k is 40: each search returns all that there is
        probed(service, service.metric("serving_index_recall_probes_total", outcome="done") + 2)
        assert service.metric("serving_index_recall") == 0.25
        answer = service.http.get("/readyz")
        assert answer.status_code == 200
        (warning,) = answer.json()["warnings"]
        assert warning.startswith("index_recall@50 is 0.250, below SERVING_LEAST_RECALL=0.6")
    assert warning in caplog.text


def test_while_the_model_does_not_answer_nothing_is_measured_and_that_is_said(lossy, caplog):
    lossy.search = lambda *arguments, **options: raises()
    with in_process_app(lossy, recall_seconds=0.05) as service:
        skipped = {"outcome": "skipped"}
        until(lambda: service.metric("serving_index_recall_probes_total", **skipped) == 1)
        assert math.isnan(service.metric("serving_index_recall"))
        assert service.http.get("/readyz").json()["index_recall"] is None
        del lossy.search
        probed(service, 1)
    assert caplog.text.count("index_recall is not measured while the model does not answer") == 1


def raises() -> None:
    raise RetrievalError("away")


def test_a_probe_that_fails_is_counted_and_the_next_one_comes(lossy):
    lossy.stored_vectors = lambda ids: raises()
    with in_process_app(lossy, recall_seconds=0.05) as service:
        failed = {"outcome": "failed"}
        until(lambda: service.metric("serving_index_recall_probes_total", **failed) >= 2)
        del lossy.stored_vectors
        probed(service, 1)


def test_a_retriever_that_tells_no_vectors_is_left_alone(caplog):
    caplog.set_level(logging.INFO, "paddlerec_milvus")
    retriever = ExactRetriever(VECTORS[1:], np.arange(1, ITEMS + 1))
    with in_process_app(retriever, recall_seconds=0.05) as service:
        until(lambda: "this retriever tells no vectors" in caplog.text)
        assert math.isnan(service.metric("serving_index_recall_timestamp_seconds"))


def test_it_asks_by_the_interests_of_requests(service):
    probe, served = service.service.index_probe, service.service.current
    service.candidates([3, 5])
    until(lambda: len(probe._recent) >= 1)
    (interests,) = TinyEncoder().interests(np.array([[3, 5, 0, 0, 0]]), np.array([2]))
    assert any(np.allclose(probe._recent[-1], one, atol=1e-6) for one in interests)
    assert len(probe._queries(served)) == len(probe._recent) + len(TinyEncoder().sample())


def test_all_interests_have_their_turns(shop):
    for _ in range(70):  # more than are remembered
        shop.candidates([3, 5])
    recent = np.stack(shop.service.index_probe._recent)
    assert len(np.unique(recent.round(5), axis=0)) == 2


def test_deleted_changed_and_added_items_are_judged_as_they_are_stored():
    index, model = SmallIndex(VECTORS), ExactRetriever(VECTORS[1:], np.arange(1, ITEMS + 1))
    queries = TinyEncoder().sample()
    assert recall_as_stored(index, model, queries).tolist() == [1.0] * len(queries)
    index.delete(list(range(1, 11)))
    index.upsert(-VECTORS[11:21], list(range(11, 21)))
    index.upsert(VECTORS[1:3], [ITEMS + 1, ITEMS + 2])
    assert recall_as_stored(index, model, queries).tolist() == [1.0] * len(queries)
    index.delete(list(index.vectors_by_id))
    assert recall_as_stored(index, model, queries).tolist() == [0.0] * len(queries)


def test_a_written_item_is_followed_until_others_see_it(shop, index):
    late, stored = 3, index.stored_vectors

    def bounded(ids, level="Strong"):
        nonlocal late
        late -= level == "Bounded"
        return {} if late > 0 else stored(ids)

    index.stored_vectors = bounded
    assert math.isnan(shop.metric("serving_item_freshness_seconds"))
    body = {"items": [{"id": 7, "vector": [1.0] + [0.0] * 7}]}
    assert shop.http.post("/items", json=body).status_code == 200
    until(lambda: shop.metric("serving_item_freshness_seconds") > 0.5)  # two pauses of 0.5 s
    assert late == 0
