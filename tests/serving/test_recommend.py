# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Ranked lists over HTTP: what ranks, why an item is there, and what answers when ranking fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from ranked_calls import TOP_K, copy_of, ids, recommended, started
from running_service import Running, running, settings_of

from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.data.shown_lists import read_shown
from paddlerec_milvus.encoder import loaded_encoder
from paddlerec_milvus.ranking.channels import CHANNELS
from paddlerec_milvus.ranking.features import GROUPS
from paddlerec_milvus.ranking.samples import held_out_moments, searched_users
from paddlerec_milvus.ranking.training import ranking_beside, train_ranking
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.serving.client import Client


@pytest.fixture(scope="module")
def service(ranked, tmp_path_factory) -> Iterator[Running]:
    with started(ranked, tmp_path_factory.mktemp("service")) as one:
        assert one.http.post("/insert").status_code == 200
        yield one


def test_lists_are_those_of_the_ranker_offline(service, ranked) -> None:
    """Item for item, score for score, for users one by one and together."""
    assert ranks_as_offline(service, ranked) == "trees"


def test_din_ranks_as_it_does_offline(ranked, tmp_path) -> None:
    copy = copy_of(ranked, tmp_path)
    train_ranking(settings_of(copy, tmp_path).trained, kind="din", most_lists=60, rounds=2)
    with started(copy, tmp_path / "service") as service:
        assert service.http.post("/insert").status_code == 200
        assert ranks_as_offline(service, copy) == "din"


def ranks_as_offline(service: Running, ranked: Any) -> str:
    """Compare lists of the test users with those of the ranker alone; says which one it is."""
    trained = service.service.settings.trained
    encoder = loaded_encoder(*trained)
    vectors = encoder.item_vectors()
    model = ranking_beside(trained, vectors)
    users = read_held_out(ranked.data / "test")
    retriever = ExactRetriever(vectors[1:], np.arange(1, len(vectors)))
    moments = held_out_moments(users)
    expected = [
        model.rank(user.clicks, user.interests, user.hits, set(user.moment.history.tolist()), TOP_K)
        for user in searched_users(moments, encoder.interests, encoder.maxlen, retriever, 200)
    ]
    histories = [one.history.tolist() for one in moments]
    answer = recommended(service, *histories)
    assert answer["source"] == ["ranked"] * len(histories)
    assert answer["ranker"] == model.manifest.digest
    assert ids(answer) == [best.items.tolist() for best in expected]
    scores = [[item["score"] for item in row] for row in answer["recommendations"]]
    np.testing.assert_allclose(scores, [best.scores for best in expected], atol=1e-4)
    alone = [ids(recommended(service, history))[0] for history in histories[:5]]
    assert alone == ids(answer)[:5]
    return model.manifest.ranker


def test_each_item_says_why_it_is_there(service) -> None:
    history = [3, 7, 11]
    (row,) = recommended(service, history)["recommendations"]
    assert len(row) == TOP_K
    for item in row:
        assert item["id"] not in history
        assert item["channels"]
        assert set(item["channels"]) <= set(CHANNELS)
        assert item["follows"] is None or item["follows"] in history
        assert 0 <= item["interest"] < 4
        assert item["why"] is None


def test_what_moved_it_is_said_where_it_is_asked(service) -> None:
    history = [3, 7, 11]
    plain = recommended(service, history, top_k=60)["recommendations"][0]
    (row,) = recommended(service, history, top_k=60, explain=True)["recommendations"]
    assert [{**item, "why": None} for item in row] == plain
    for item in row[:50]:
        sizes = [abs(one["contribution"]) for one in item["why"]]
        assert 0 < len(sizes) <= 3
        assert sizes == sorted(sizes, reverse=True)
        assert {one["group"] for one in item["why"]} <= GROUPS.keys() - {"history"}
    assert all(item["why"] is None for item in row[50:])
    without = recommended(service, [], explain=True)["recommendations"][0]
    assert all(item["why"] is None for item in without)


@pytest.mark.parametrize("top_k", [1, 200])
def test_length(service, top_k) -> None:
    assert len(ids(recommended(service, [5], top_k=top_k))[0]) == top_k


def test_more_than_there_are_candidates_makes_a_short_list(service) -> None:
    (row,) = ids(recommended(service, [5], top_k=1_000))
    assert 200 <= len(row) == len(set(row)) < 300


def test_users_without_clicks_that_are_known_get_popular_items(service) -> None:
    answer = recommended(service, [], [999_999], [5])
    assert answer["source"] == ["popular", "popular", "ranked"]
    assert answer["unknown"] == [[], [999_999], []]
    assert ids(answer)[0] == list(range(1, TOP_K + 1))
    assert answer["recommendations"][0][0]["channels"] == {}


def test_what_is_excluded_or_filtered_comes_from_no_channel(service) -> None:
    first = ids(recommended(service, [5]))[0]
    assert not set(first) & set(ids(recommended(service, [5], exclude=first))[0])
    catalogue = service.service.model.catalogue
    name, _ = catalogue.category_sizes()[0]
    (row,) = ids(recommended(service, [5], filter={"category": [name]}, top_k=50))
    assert row
    assert set(row) <= set(catalogue.items_of([name]).tolist())


def test_bad_requests_are_422(service) -> None:
    bodies: list[dict[str, Any]] = [
        {"hist_item": [[5]], "top_k": 0},
        {"hist_item": [[5]], "top_k": 1_000_000},
        {"hist_item": [["five"]]},
        {"hist_item": [[5]], "quota": 3},
        {},
    ]
    assert {service.http.post("/recommend", json=body).status_code for body in bodies} == {422}


def test_a_stored_user(ranked, tmp_path) -> None:
    with started(ranked, tmp_path) as service:
        service.http.post("/insert")
        service.http.post("/users/7/events", json={"items": [3, 7, 11]})
        answer = service.http.get("/users/7/recommendations", params={"top_k": 5})
        assert answer.status_code == 200, answer.text
        assert answer.json()["source"] == ["ranked"]
        assert ids(answer.json()) == ids(recommended(service, [3, 7, 11], top_k=5))
        with Client(service.url) as client:
            (row,) = client.user_recommendations(7, explain=True).recommendations
        assert all(item.why for item in row)
        nobody = service.http.get("/users/8/recommendations").json()
        assert nobody["source"] == ["popular"]
        many = service.http.get("/users/7/recommendations", params={"top_k": 100_000})
        assert many.status_code == 422


def test_an_item_that_was_deleted_comes_from_no_channel(ranked, tmp_path) -> None:
    with started(ranked, tmp_path) as service:
        service.http.post("/insert")
        (before,) = recommended(service, [3, 7], top_k=200)["recommendations"]
        by_others = next(item for item in before if "interests" not in item["channels"])
        for item in (by_others["id"], before[0]["id"]):
            assert service.http.delete(f"/items/{item}").status_code == 200
        (after,) = ids(recommended(service, [3, 7], top_k=200, consistency="Strong"))
        assert not {by_others["id"], before[0]["id"]} & set(after)
        assert service.http.delete("/items/1").status_code == 200
        (popular,) = ids(recommended(service, [], consistency="Strong"))
        assert popular[0] != 1
        assert service.candidates([], top_k=TOP_K, consistency="Strong")["candidates"] == [popular]


def test_a_list_stays_long_though_many_items_were_deleted(ranked, tmp_path) -> None:
    with started(ranked, tmp_path) as service:
        service.http.post("/insert")
        (before,) = recommended(service, [3, 7], top_k=200)["recommendations"]
        others = [item["id"] for item in before if "interests" not in item["channels"]]
        gone = [item["id"] for item in before[:60]] + others[:40]
        served = service.service.current
        assert served is not None
        served.writable.delete(gone)
        (after,) = ids(recommended(service, [3, 7], top_k=100, consistency="Strong"))
        assert len(after) == 100
        assert not set(gone) & set(after)


def test_a_category_that_was_changed_counts_in_every_channel(ranked, tmp_path) -> None:
    with started(ranked, tmp_path) as service:
        service.http.post("/insert")
        model = service.service.model
        vectors = model.tower.item_vectors()
        (old, _), (new, _) = model.catalogue.category_sizes()[:2]
        options = {"top_k": 200, "consistency": "Strong"}
        rows = recommended(service, [3, 7], filter={"category": [old]}, **options)
        moved, elsewhere = [
            item["id"]
            for item in rows["recommendations"][0]
            if set(item["channels"]) != {"interests"}
        ][:2]
        item = {"id": moved, "vector": vectors[moved].tolist(), "category": new}
        assert service.http.post("/items", json={"items": [item]}).status_code == 200
        served = service.service.current
        assert served is not None  # another process writes, of which this one is not told
        served.writable.upsert(vectors[[elsewhere]], [elsewhere], [new])
        for name, there in ((old, False), (new, True)):
            answer = recommended(service, [3, 7], filter={"category": [name]}, **options)
            assert answer["source"] == ["ranked"]
            channels = {one["id"]: set(one["channels"]) for one in answer["recommendations"][0]}
            assert (moved in channels) == there
            assert elsewhere not in channels or there
            assert not there or channels[moved] - {"interests"}


def test_a_large_answer_is_that_of_its_users_alone(service) -> None:
    """It is made in a thread, and its JSON in pieces."""
    histories = [[3, 7], [], [5], [999_999]] * 20
    few, many = (recommended(service, *some, top_k=30) for some in (histories[:4], histories))
    assert many["source"] == few["source"] * 20
    assert many["unknown"] == few["unknown"] * 20
    assert many["ranker"] == few["ranker"]
    assert ids(many) == ids(few) * 20


def raises(*arguments: object) -> None:
    raise RuntimeError("a ranker that cannot")


def not_a_number(rows: np.ndarray, *others: object) -> np.ndarray:
    return np.full(len(rows), np.nan)


def hangs(end: threading.Event) -> Callable[..., None]:
    return lambda *arguments: (end.wait(20), raises())[1]


@pytest.mark.parametrize(("fault", "reason"), [(raises, "failure"), (not_a_number, "failure")])
def test_a_ranker_that_fails_leaves_the_model_s_order(service, monkeypatch, fault, reason) -> None:
    ranking = service.service.model.ranking
    monkeypatch.setattr(ranking.ranker, "scores", fault)
    before = service.metric("serving_unranked_total", reason=reason)
    answer = recommended(service, [3, 7, 11])
    assert answer["source"] == ["unranked"]
    assert ids(answer)[0] == service.candidates([3, 7, 11], top_k=TOP_K)["candidates"][0]
    assert service.metric("serving_unranked_total", reason=reason) == before + 1


def test_a_ranker_that_hangs_costs_its_deadline_alone(ranked, tmp_path, monkeypatch) -> None:
    end = threading.Event()
    with started(ranked, tmp_path, ranking_timeout=0.1) as service:
        service.http.post("/insert")
        monkeypatch.setattr(service.service.model.ranking.ranker, "scores", hangs(end))
        try:
            assert recommended(service, [3, 7, 11])["source"] == ["unranked"]
            assert service.metric("serving_unranked_total", reason="deadline")
            assert service.candidates([3])["source"] == ["model"]
        finally:
            end.set()


def test_without_a_ranker_and_without_vectors(trained, tmp_path) -> None:
    with running(settings_of(trained, tmp_path)) as service:
        answer = recommended(service, [3, 7])
        assert answer["source"] == ["fallback"]
        service.http.post("/insert")
        answer = recommended(service, [3, 7])
        assert (answer["source"], answer["ranker"]) == (["unranked"], None)


def test_without_milvus_the_other_channels_are_ranked(ranked, tmp_path, monkeypatch) -> None:
    with started(ranked, tmp_path) as service:
        service.http.post("/insert")
        with_all = recommended(service, [3, 7, 11])
        monkeypatch.setattr(MilvusRetriever, "search", raises)
        for answer in (recommended(service, [3, 7, 11]), recommended(service, [3, 7, 11])):
            assert answer["source"] == ["other_channels"]
            (row,) = answer["recommendations"]
            assert len(row) == TOP_K
            assert not any("interests" in item["channels"] for item in row)
            assert not set(ids(answer)[0]) & {3, 7, 11}
        assert with_all["source"] == ["ranked"]


def test_the_version_before_is_logged_beside_what_answers(ranked, tmp_path) -> None:
    """Here both are of one model, so their lists are the same."""
    shown = tmp_path / "shown"
    with started(ranked, tmp_path, shown_log=shown, shadow="before") as service:
        for _ in range(2):
            assert service.http.post("/insert").status_code == 200
        answer = recommended(service, [3, 7, 11])
    (line,) = read_shown([shown]).lists
    assert line.items == ids(answer)[0]
    assert line.shadow is not None
    assert (line.shadow.by, line.shadow.source) == ("before", "ranked")
    assert (line.shadow.items, line.shadow.ranker) == (line.items, line.ranker)


def test_the_client_reads_ranked_lists(service) -> None:
    with Client(service.url) as client:
        answer = client.recommend([[3, 7, 11], []], top_k=5, exclude=[1], explain=True)
        assert [bool(row[0].why) for row in answer.recommendations] == [True, False]
        assert answer.source == ["ranked", "popular"]
        assert [len(row) for row in answer.recommendations] == [5, 5]
        assert all(item.id != 1 for row in answer.recommendations for item in row)
        assert client.user_recommendations(12_345).source == ["popular"]
