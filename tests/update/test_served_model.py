# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Replicas that are not ready or answer with an error are waited for, and then said to be wrong."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from paddlerec_milvus.serving.client import ServiceError
from paddlerec_milvus.serving.health import ABSENT, AWAY, FAILING, OTHER, READY, State, other_data
from paddlerec_milvus.serving.schemas import ReadyAnswer
from paddlerec_milvus.update import served_model
from paddlerec_milvus.update.served_model import ServiceReplicas, WrongModelError

URL = "http://shop.example"


def ready(state: State) -> httpx.Response:
    """The answer of /readyz."""
    answer = ReadyAnswer(
        ready=state.ready,
        reason=state.reason,
        checkpoint="abc",
        items=3,
        index_recall=None,
        warnings=[],
        digest="abc",
        ranker="none",
    )
    return httpx.Response(200 if state.ready else 503, json=answer.model_dump())


def replicas(*answers: httpx.Response) -> ServiceReplicas:
    """One that gives these answers in turn."""
    rest = iter(answers)
    return ServiceReplicas([URL], "", httpx.MockTransport(lambda _: next(rest)))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks again at once."""
    monkeypatch.setattr(served_model, "PAUSE", 0.0)


@pytest.fixture
def at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time to wait is over."""
    monkeypatch.setattr(served_model, "FOLLOW_SECONDS", -1.0)


def test_what_serves_is_waited_for(patient):
    answers = (ready(FAILING), httpx.Response(502), ready(AWAY), ready(READY))
    with replicas(*answers) as services:
        assert services.served() == "abc-none"


def test_nothing_serves_only_where_an_insert_would_help(at_the_end):
    for state in (ABSENT, OTHER, other_data("theirs", "ours")):
        with replicas(ready(state)) as services:
            assert services.served() == ""
    with (
        replicas(ready(AWAY)) as services,
        pytest.raises(ServiceError, match=f"{URL} is not ready: Milvus does not answer"),
    ):
        services.served()


def test_counters_are_of_each_service_and_without_its_password():
    page = 'serving_requests_total{method="POST",route="/candidates",status="200"} 3.0\n'
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text=page))
    with ServiceReplicas(["http://me:secret@a", "http://b"], "", transport) as services:
        traffic = services.traffic()
    assert {url: one.requests for url, one in traffic.items()} == {"http://…@a": 3, "http://b": 3}


class SampleOf:
    """In place of SampleLists: its comparisons end so in turn."""

    def __init__(self, *ends: str | Exception) -> None:
        self.ends = [*ends]

    def compared(self, *_: Any) -> str:
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end


def required(monkeypatch: pytest.MonkeyPatch, sample: SampleOf) -> str:
    monkeypatch.setattr(served_model, "SampleLists", lambda *_: sample)
    nothing: Any = None
    with replicas() as services:
        return services.require_lists(nothing, nothing, nothing, 0.9)


def test_a_service_that_fails_for_a_moment_is_asked_again(patient, monkeypatch):
    sample = SampleOf(ServiceError("busy", 429), WrongModelError("old"), ServiceError("away"), "ok")
    assert required(monkeypatch, sample) == f"{URL}: ok"


def test_one_that_does_not_answer_at_the_end_is_wrong(at_the_end, monkeypatch):
    with pytest.raises(WrongModelError, match="did not answer"):
        required(monkeypatch, SampleOf(ServiceError("did not answer")))


def test_a_key_that_is_refused_is_said_at_once(patient, monkeypatch):
    sample = SampleOf(ServiceError("no such key", 401), "never asked")
    with pytest.raises(ServiceError, match="no such key"):
        required(monkeypatch, sample)
    assert sample.ends == ["never asked"]
