# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Users in a store that lets one process write: what this one does when it is another's turn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from in_process import in_process_app
from running_service import Running

from paddlerec_milvus.retrieval.writer_claim import ClaimedError
from paddlerec_milvus.serving.async_user_store import InMemoryUserStore


class ContestedStore(InMemoryUserStore):
    """``turn`` is another number after others have written; 0 while they do."""

    turn = 1

    def claim(self) -> int:
        if not self.turn:
            raise ClaimedError("process 17 on there takes the clicks")
        return self.turn

    def is_writer(self) -> bool:
        return self.turn > 0


@pytest.fixture
def store() -> ContestedStore:
    return ContestedStore()


@pytest.fixture
def service(store) -> Iterator[Running]:
    with in_process_app(user_store=store) as started:
        yield started


def click(service: Running, item: int) -> int:
    return service.http.post("/users/5/events", json={"items": [item]}).status_code


def test_what_others_wrote_in_between_is_not_written_over(service, store):
    assert click(service, 3) == 200
    state = store.read(5)
    store.write(state._replace(history=[3, 7], clicks=2, times=()), state)
    store.turn += 1
    assert click(service, 12) == 200
    assert store.read(5).history == [3, 7, 12]
    reads: list[int] = []
    store.read_all = lambda users: reads.append(1) or {}
    assert click(service, 20) == 200  # nobody else wrote: by what is remembered
    assert (store.read(5).history, reads) == ([3, 7, 12, 20], [])


def test_clicks_are_refused_with_the_others_name_and_lists_go_on(service, store):
    assert click(service, 3) == 200
    before = service.http.get("/users/5/candidates").json()
    store.turn = 0
    for method, path in (("POST", "/users/5/events"), ("DELETE", "/users/5")):
        body = {"items": [7]} if method == "POST" else None
        store.delete = lambda user: store.claim()
        answer = service.http.request(method, path, json=body)
        assert answer.status_code == 409
        assert "process 17 on there" in answer.json()["detail"]
    assert service.http.get("/users/5/candidates").json() == before
    assert store.read(5).history == [3]
