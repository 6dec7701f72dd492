# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the service answers is what tools/infer.py measures: item for item, for 1,000 users."""

from __future__ import annotations

import json

import pytest
from running_service import running

from paddlerec_milvus.command import settings_for
from paddlerec_milvus.data.cli import main as prepare
from paddlerec_milvus.data.id_map import OwnId, read_item_ids, read_user_ids
from paddlerec_milvus.evaluation.cli import main as infer
from paddlerec_milvus.evaluation.evaluator import Evaluation
from paddlerec_milvus.evaluation.predict import Search, Stopwatch
from paddlerec_milvus.retrieval.milvus import retriever_from_settings
from paddlerec_milvus.serving.settings import ServiceSettings, service_settings
from paddlerec_milvus.training.cli import main as train

pytestmark = pytest.mark.slow

USERS, ITEMS, TOP_N = 1_000, 3_000, 50


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """1,000 test users and a MIND trained for a moment; enough items for a server's index."""
    folder = tmp_path_factory.mktemp("online")
    size = ["--users", str(10 * USERS), "--items", str(ITEMS), "--clicks", "200000"]
    assert prepare(["--sample", *size, "--out", str(folder / "data")]) == 0
    options = [f"runner.model_save_path={folder / 'out'}", "runner.epochs=1"]
    options += ["runner.batches_per_epoch=60", "hyper_parameters.neg_samples=256"]
    assert train(["-m", "mind/config.yaml", "--data", str(folder / "data"), "-o", *options]) == 0
    return folder


def settings(catalogue, tmp_path, uri, *options) -> ServiceSettings:
    given = ["hyper_parameters.neg_samples=256", "index.type=FLAT", f"milvus.uri={uri}", *options]
    return service_settings(
        "mind/config.yaml",
        [f"runner.infer_load_path={catalogue / 'out'}", *given],
        catalogue / "data",
        "0",
        timeout=10.0,
        registry=tmp_path / "kept",
    )


def online_lists(service, histories, at_once, **asked) -> list[list[int]]:
    found: list[list[int]] = []
    for start in range(0, len(histories), at_once):
        found += service.candidates(*histories[start : start + at_once], **asked)["candidates"]
    return found


def own_histories(offline: Evaluation, catalogue) -> list[list[OwnId]]:
    ids = read_item_ids(catalogue / "data")
    return [ids.own_ids(items.tolist()) for items in offline.users.history_list()]


def evaluation(service_settings, catalogue) -> Evaluation:
    source = service_settings.source
    return Evaluation(settings_for(source.yaml, source.options, catalogue / "data"), TOP_N)


@pytest.mark.server
@pytest.mark.parametrize("exclude", [False, True])
def test_the_service_gives_the_lists_of_infer(server, catalogue, tmp_path, exclude):
    """Each puts the vectors into a collection of its own."""
    file, history = tmp_path / "lists.jsonl", f"retrieval.exclude_history={exclude}"
    given = settings(catalogue, tmp_path, server.uri, "milvus.collection=lists", history)
    arguments = ["-m", "mind/config.yaml", "--data", str(catalogue / "data"), "-top_n", str(TOP_N)]
    options = ["runner.infer_start_epoch=0", "runner.infer_end_epoch=1", *given.source.options]
    with running(given) as service:
        offline = evaluation(given, catalogue)
        histories = own_histories(offline, catalogue)
        assert service.http.post("/insert").json()["inserted"] == ITEMS
        online = online_lists(service, histories, 100, top_k=TOP_N, exclude_history=exclude)
        assert infer([*arguments, "--lists", str(file), "-o", *options]) == 0
        assert service.candidates(*histories[:5])["source"] == ["model"] * 5  # it serves still
        service.http.post("/delete")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    users = read_user_ids(catalogue / "data").own_ids(offline.users.user_ids.tolist())
    assert [line["user"] for line in lines] == users
    assert len(online) == USERS
    assert online == [line["items"] for line in lines]


@pytest.mark.server
@pytest.mark.parametrize("exclude", [False, True])
def test_online_is_offline_by_one_graph(server, catalogue, tmp_path, exclude):
    """HNSW is built differently each time, so both search one collection.

    Milvus 2.3.5 begins the search for a vector that it has seen before at another place of the
    graph, and 2 % of the lists differ then: so each is asked for twice, the second answer counts.
    """
    options = ["milvus.collection=online", "index.type=HNSW", "index.M=8", "index.ef=50"]
    given = settings(
        catalogue, tmp_path, server.uri, *options, f"retrieval.exclude_history={exclude}"
    )
    offline = evaluation(given, catalogue)
    offline.encoder.load(given.checkpoint)
    ids, histories = read_item_ids(catalogue / "data"), own_histories(offline, catalogue)
    with running(given) as service:
        assert service.http.post("/insert").json()["inserted"] == ITEMS
        asked = {"top_k": TOP_N, "exclude_history": exclude}
        online, _ = [online_lists(service, histories, 100, **asked) for _ in range(2)][::-1]
        vectors = offline.encoder.item_vectors()
        with retriever_from_settings(offline.settings, collection="online") as retriever:
            search = Search(retriever, vectors, "IP", TOP_N)
            expected, _ = offline._candidates(search, offline.queries, Stopwatch())
        expected_ids = [ids.own_ids(row) for row in expected.tolist()]
        assert online == expected_ids
        alone, _ = [online_lists(service, histories[:100], 1, **asked) for _ in range(2)][::-1]
        assert alone == expected_ids[:100]
        service.http.post("/delete")
    exact, _ = offline._candidates(
        Search.exactly(vectors, "IP", TOP_N), offline.queries, Stopwatch()
    )
    assert (expected != exact).any()  # the graph misses some, else this would prove little
