# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The seam: a retriever and an encoder from elsewhere in place of a checkpoint and Milvus."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from in_process import ITEMS, SmallIndex, TinyEncoder, in_process_app, tiny_settings
from running_service import until

from paddlerec_milvus.errors import CheckpointError, RetrievalError, SettingsError
from paddlerec_milvus.retrieval.candidates import search_users
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.serving.app import create_app
from paddlerec_milvus.serving.health import AWAY


@pytest.fixture
def tiny():
    with in_process_app() as service:
        yield service


def test_candidates_are_those_of_the_retriever(tiny):
    encoder = TinyEncoder()
    histories = np.array([[3, 4, 5, 0, 0], [9, 0, 0, 0, 0]])
    interests = encoder.interests(histories, np.array([3, 1]))
    exact = ExactRetriever(encoder.item_vectors()[1:], range(1, ITEMS + 1))
    expected = search_users(exact, interests, 7, [[3, 4, 5], [9]])
    found = tiny.candidates([3, 4, 5], [9], [], top_k=7)
    assert found["candidates"][:2] == expected.ids.tolist()
    assert found["source"] == ["model", "model", "popular"]
    assert tiny.ready() == (200, "the stored item vectors are this checkpoint's")


def test_filters_titles_and_names_of_interests_work(tiny):
    found = tiny.candidates([3], filter={"category": ["games"]}, titles=True, nearest=True)
    assert set(found["categories"][0]) == {"games"}
    assert found["titles"][0][0] == f"Title {found['candidates'][0][0]} of games"
    assert len(found["nearest"][0]) == 2


def test_items_and_users_can_be_changed(tiny):
    vector = TinyEncoder().item_vectors()[3].tolist()
    assert tiny.http.post("/items", json={"items": [{"id": 99, "vector": vector}]}).is_success
    assert tiny.candidates([3])["candidates"][0][0] == 99
    assert tiny.http.delete("/items/99").json() == {"deleted": 99}
    assert 99 not in tiny.candidates([3])["candidates"][0]
    assert tiny.http.get("/count").json()["count"] == ITEMS

    assert tiny.http.post("/users/7/events", json={"items": [3, 4, 999]}).json() == {
        "user": 7,
        "history": 2,
        "unknown": [999],
    }
    by_user = tiny.http.get("/users/7/candidates").json()
    assert by_user["candidates"] == tiny.candidates([3, 4])["candidates"]
    assert tiny.http.delete("/users/7").json() == {"deleted": 7}
    assert tiny.http.get("/users/7/candidates").json()["source"] == ["popular"]


@pytest.mark.parametrize("path", ["/insert", "/rollback", "/delete"])
def test_what_needs_milvus_says_so(tiny, path):
    answer = tiny.http.post(path)
    assert answer.status_code == 409
    assert "without Milvus; create_app(settings) alone uses" in answer.json()["detail"]


def test_a_retriever_that_is_away_costs_the_model_and_no_answer():
    class Away(SmallIndex):
        is_away = False

        def search(self, *arguments, **options):
            if self.is_away:
                raise RetrievalError("away")
            return super().search(*arguments, **options)

    index = Away(TinyEncoder().item_vectors())
    with in_process_app(index) as service:
        index.is_away = True
        assert service.candidates([3], top_k=3)["source"] == ["fallback"]
        until(lambda: service.ready() == (503, AWAY.reason))
        index.is_away = False
        until(lambda: service.candidates([3])["source"] == ["model"])


def test_items_of_a_retriever_that_only_searches_cannot_be_changed():
    class SearchOnly:
        is_exact = True
        search = SmallIndex(TinyEncoder().item_vectors()).search

    with in_process_app(SearchOnly()) as service:
        answer = service.http.delete("/items/3")
        assert answer.status_code == 409
        assert "SearchOnly, whose items cannot be changed" in answer.json()["detail"]


def test_one_of_both_is_refused():
    with pytest.raises(SettingsError, match="retriever and encoder belong together"):
        create_app(tiny_settings(), encoder=TinyEncoder())


def test_settings_without_a_checkpoint_do_not_start_alone():
    app = create_app(tiny_settings())
    with pytest.raises(CheckpointError, match="name no checkpoint"):
        asyncio.run(app.router.lifespan_context(app).__aenter__())
