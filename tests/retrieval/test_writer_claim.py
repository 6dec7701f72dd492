# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Of two processes one may write the users of a collection, and the other is told which."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval import writer_claim
from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.writer_claim import ClaimedError, WriterClaim

numbers = itertools.count(1)


@pytest.fixture
def claim(uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], WriterClaim]]:
    """The claim of a process on a machine of this name, on the same users each time."""
    connection, users = Connection(uri), f"claimed_{next(numbers)}"

    def of_machine(name: str) -> WriterClaim:
        with monkeypatch.context() as patch:
            patch.setattr(writer_claim, "_machine", lambda: name)
            return WriterClaim(connection, users)

    yield of_machine
    connection.call("drop_collection", f"{users}_writer")
    connection.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets seconds pass."""
    now = [1_000.0]
    monkeypatch.setattr(writer_claim.time, "monotonic", lambda: now[0])

    def forward(seconds: float) -> None:
        now[0] += seconds

    return forward


def test_the_second_is_refused_until_the_first_releases(claim):
    one, other = claim("here"), claim("there")
    one.require()
    assert one.is_valid
    generation = one.generation
    for _ in range(2):
        with pytest.raises(ClaimedError, match=rf"process {os.getpid()} on .* SERVING_HISTORIES"):
            other.require()
        one.require()
        assert (one.generation, other.is_valid) == (generation, False)
    one.release()
    other.require()
    assert other.generation > generation
    with pytest.raises(ClaimedError):
        one.require()


def test_a_process_that_stands_still_loses_its_claim(claim, clock):
    one, other = claim("here"), claim("there")
    one.require()
    for _ in range(4):
        clock(writer_claim.DEAD_SECONDS / 4)
        one.require()  # a write now and then
        with pytest.raises(ClaimedError):
            other.require()
    for _ in range(9):
        clock(writer_claim.VALID_SECONDS / 2)
        one.renew()
        with pytest.raises(ClaimedError):
            other.require()
        assert one.is_valid
    clock(writer_claim.DEAD_SECONDS)
    assert not one.is_valid
    other.require()
    with pytest.raises(ClaimedError):
        one.require()


def test_a_process_of_this_machine_that_has_ended_is_known_at_once(claim, monkeypatch):
    gone = claim("here")
    gone._key = f"{writer_claim._machine()} {os.getpid()} 12345"  # of this number, before
    gone.require()
    claim(writer_claim._machine()).require()


def test_of_two_at_the_same_time_not_both_claim(claim, monkeypatch):
    """Whatever the steps: each puts its row before it reads those of the others."""
    one, other = claim("here"), claim("there")
    rows = WriterClaim._rows

    def in_between(self: WriterClaim):
        if self is one:
            monkeypatch.undo()
            with pytest.raises(ClaimedError):
                other.require()
        return rows(self)

    one.open()
    monkeypatch.setattr(WriterClaim, "_rows", in_between)
    one.require()
    assert (one.is_valid, other.is_valid) == (True, False)


def test_a_milvus_that_refuses_gives_no_claim(claim, monkeypatch):
    one = claim("here")
    one.open()

    def away(*_: object, **__: object) -> None:
        raise RetrievalError("away")

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "call", away)
        with pytest.raises(RetrievalError, match="away"):
            one.require()
    assert not one.is_valid
    one.require()
