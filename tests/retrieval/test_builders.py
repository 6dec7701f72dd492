# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Builds at the same time, versions dropped by hand, and names that never come again."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from paddlerec_milvus.errors import BuildConflictError, ForeignError, RetrievalError
from paddlerec_milvus.retrieval import versions
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.retrieval.ownership import mark
from paddlerec_milvus.retrieval.server import LocalMilvus
from paddlerec_milvus.retrieval.versions import CollectionVersions

from .conftest import clustered

IDS = np.arange(1, 51)
VECTORS = clustered(50, 8, seed=1)


def build(retriever: MilvusRetriever, first_id: int = 1, **options: object) -> None:
    retriever.versions.build(VECTORS, IDS - 1 + first_id, keep=True, **options)


def nearest(retriever: MilvusRetriever) -> int:
    return int(retriever.search(VECTORS[:1], 1, consistency="Strong").ids[0, 0])


def names(retriever: MilvusRetriever) -> set[str]:
    return set(retriever.versions.names().values())


def serving(retriever: MilvusRetriever) -> str:
    described = retriever.versions.serving()
    assert described is not None
    return described.name


def drop_by_hand(retriever: MilvusRetriever, name: str) -> None:
    retriever._connection.call("drop_collection", name)


@pytest.fixture(
    params=["lite", pytest.param("server", marks=[pytest.mark.server, pytest.mark.slow])]
)
def uri(request: pytest.FixtureRequest) -> str:
    """Milvus Lite, and the real server, where a build takes seconds, among the slow tests."""
    return str(request.getfixturevalue("lite_uri" if request.param == "lite" else "server_uri"))


@pytest.fixture
def server_uri(server: LocalMilvus) -> str:
    return server.uri


@pytest.mark.server
def test_an_alias_points_where_it_should_whatever_was_dropped(server, make_retriever):
    """A server knows an alias still whose collection is gone; Lite forgets it."""
    stored = make_retriever(server.uri)
    alias, made = stored.collection, []
    for _ in range(3):
        made.append(f"{alias}_v{len(made)}")
        stored._connection.create_collection(made[-1], 4, mark(alias))
        stored.versions._point(alias, made[-1])
        assert serving(stored) == made[-1]
        drop_by_hand(stored, made[-1])
    assert not stored.versions.drop()
    stored._connection.create_collection(alias, 4, mark(alias))
    drop_by_hand(stored, alias)


def test_a_version_dropped_by_hand_is_healed_by_the_next_build(uri, make_retriever):
    retriever = make_retriever(uri)
    build(retriever, 1)
    dropped = serving(retriever)
    drop_by_hand(retriever, dropped)
    assert retriever.versions.serving() is None
    build(retriever, 1_001)
    assert nearest(retriever) == 1_001
    assert dropped not in names(retriever)
    build(retriever, 2_001)
    assert retriever.versions.previous() is not None
    drop_by_hand(retriever, retriever.versions.previous().name)  # now behind the other alias
    build(retriever, 3_001)
    assert nearest(retriever) == 3_001
    assert retriever.versions.roll_back()
    assert nearest(retriever) == 2_001


def test_drop_heals_it_too_and_a_name_never_comes_again(uri, make_retriever):
    retriever = make_retriever(uri)
    build(retriever)
    build(retriever)
    used = names(retriever)
    drop_by_hand(retriever, serving(retriever))
    assert not retriever.versions.drop()
    assert names(retriever) == set()
    # both aliases are free again: anybody may take the names
    for alias in (retriever.collection, f"{retriever.collection}_previous"):
        retriever._connection.create_collection(alias, 4, {})
        retriever._connection.call("drop_collection", alias)
    build(retriever)
    assert used.isdisjoint(names(retriever))
    used |= names(retriever)
    assert retriever.versions.drop()
    build(retriever)
    assert used.isdisjoint(names(retriever))


def test_an_alias_of_others_beside_ours_is_left_alone(lite_uri, make_retriever):
    retriever = make_retriever(lite_uri)
    build(retriever)
    retriever._connection.create_collection("by_hand", 4, {})
    previous = f"{retriever.collection}_previous"
    retriever._connection.call("create_alias", "by_hand", previous)
    for action in (lambda: build(retriever), retriever.versions.drop):
        with pytest.raises(ForeignError, match=previous):
            action()
    assert retriever._connection.call("has_collection", previous)
    assert len(names(retriever)) == 1
    retriever._connection.call("drop_alias", previous)


def in_the_middle(
    monkeypatch: pytest.MonkeyPatch, place: object, step: str, work: Callable[[], None]
) -> None:
    """Do ``work`` once, before ``step`` of the next build."""
    real, done = getattr(place, step), []

    def first(*arguments: object) -> object:
        if not done:
            done.append(True)
            work()
        return real(*arguments)

    monkeypatch.setattr(place, step, first)


def test_who_comes_while_another_builds_is_told_by_whom(lite_uri, make_retriever, monkeypatch):
    one = make_retriever(lite_uri)
    other = make_retriever(lite_uri, one.collection)

    def come() -> None:
        with pytest.raises(BuildConflictError, match=rf"process {os.getpid()} on .* is building"):
            build(other, 1_001)

    build(one, 1)
    in_the_middle(monkeypatch, versions, "fill", come)
    build(one, 2_001)
    assert nearest(one) == 2_001
    assert len(names(one)) == 2


def test_who_was_overtaken_is_told_and_drops_its_own_alone(lite_uri, make_retriever, monkeypatch):
    one = make_retriever(lite_uri)
    other = make_retriever(lite_uri, one.collection)
    build(one, 1)
    # it has seen that nobody builds, and the other builds all before it makes its collection
    in_the_middle(monkeypatch, CollectionVersions, "_claim", lambda: build(other, 1_001))
    with pytest.raises(
        BuildConflictError, match=rf"meanwhile .* of process {os.getpid()}.* serves"
    ):
        build(one, 2_001)
    assert nearest(one) == 1_001
    assert len(names(one)) == 2


def told_and_won(uri: str, collection: str, rounds: int, start: Callable[[], object]) -> list[str]:
    """Build as often, each time together with others; what came of it."""
    outcomes = []
    with MilvusRetriever(uri, collection) as retriever:
        for _ in range(rounds):
            start()
            try:
                build(retriever)
                outcomes.append("won")
            except BuildConflictError as error:
                outcomes.append("told" if "process" in str(error) else str(error))
    return outcomes


def test_of_two_builders_one_wins_each_round(lite_uri, make_retriever):
    rounds, barrier = 5, threading.Barrier(2, timeout=60)
    retriever = make_retriever(lite_uri)
    with ThreadPoolExecutor(2) as pool:
        work = [
            pool.submit(told_and_won, lite_uri, retriever.collection, rounds, barrier.wait)
            for _ in range(2)
        ]
        outcomes = [sorted(pair) for pair in zip(*(one.result() for one in work), strict=True)]
    assert outcomes == [["told", "won"]] * rounds
    assert nearest(retriever) == 1
    assert len(names(retriever)) == 2


@pytest.mark.slow
@pytest.mark.server
def test_of_two_processes_one_wins_each_of_ten_rounds(server, make_retriever):
    rounds = 10
    retriever = make_retriever(server.uri)
    code = textwrap.dedent(f"""
        import sys
        from tests.retrieval.test_builders import told_and_won
        def start():
            print("ready", flush=True)
            sys.stdin.readline()
        print(*told_and_won({server.uri!r}, {retriever.collection!r}, {rounds}, start))
    """)
    command = [sys.executable, "-c", code]
    builders = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for _ in range(rounds):
        for one in builders:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        for one in builders:
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
    ends = [one.communicate(timeout=120)[0].split() for one in builders]
    outcomes = [sorted(pair) for pair in zip(*ends, strict=True)]
    assert outcomes == [["told", "won"]] * rounds
    assert nearest(retriever) == 1
    assert len(names(retriever)) == 2


def test_a_pinned_reader_of_a_dropped_version_gets_an_error(uri, make_retriever):
    """And never the items that another model has put in its place."""
    retriever = make_retriever(uri)
    build(retriever)
    with MilvusRetriever(uri, retriever.collection) as pinned:
        pinned.open(pin=True)
        retriever.versions.drop()
        build(retriever, 1_001)
        with pytest.raises(RetrievalError):
            nearest(pinned)


KILLED = """
import os, sys
from paddlerec_milvus.retrieval.versions import CollectionVersions
from tests.retrieval.test_builders import build, MilvusRetriever

uri, collection, last = sys.argv[1], sys.argv[2], int(sys.argv[3])
retriever = MilvusRetriever(uri, collection)
switch, call, count = CollectionVersions._switch, retriever._connection.call, [0]


def counted(name, *arguments, **options):
    count[0] += 1
    if count[0] == last:
        os._exit(9)
    return call(name, *arguments, **options)


def watched(*arguments, **options):
    retriever._connection.call = counted
    switch(*arguments, **options)


CollectionVersions._switch = watched
build(retriever, 1_000 * last)
"""


@pytest.mark.slow
@pytest.mark.server
def test_killed_at_each_call_of_the_switch_one_version_serves_whole(server, make_retriever):
    retriever = make_retriever(server.uri)
    build(retriever)
    kills, came = 0, []
    while True:
        kills += 1
        build(retriever, served := 1_000 * kills - 500)  # so that there is one to go back to
        arguments = [server.uri, retriever.collection, str(kills)]
        code = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False).returncode
        now = nearest(retriever)
        assert now in (served, 1_000 * kills)
        assert retriever.count() == len(IDS)
        came.append("old" if now == served else "new")
        if code == 0:
            break
        assert code == 9
        retriever.versions.tidy()
        assert len(names(retriever)) <= 2
    print(f"{kills - 1} kills, one at each call of the switch: {came}")
    assert kills > 5
    assert {"old", "new"} == set(came[:-1])
