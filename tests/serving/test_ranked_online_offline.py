# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What POST /recommend answers is what tools/infer.py --rank measures, for 1,000 test users.

Item for item, before and after each way to change what is served. The offline lists are made by the
code of the command from the same items in the same Milvus.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ranked_calls import ids, recommended, train_small
from running_service import Running, running

from paddlerec_milvus.command import settings_for
from paddlerec_milvus.data.cli import main as prepare
from paddlerec_milvus.data.id_map import IdMap, OwnId, read_item_ids
from paddlerec_milvus.evaluation.cli import main as infer
from paddlerec_milvus.evaluation.evaluator import Evaluation
from paddlerec_milvus.evaluation.metrics import relevance_by_user
from paddlerec_milvus.evaluation.ranking_report import RankedUsers
from paddlerec_milvus.retrieval.milvus import retriever_from_settings
from paddlerec_milvus.serving.item_ids import FIRST_NEW
from paddlerec_milvus.serving.settings import ServiceSettings, service_settings
from paddlerec_milvus.training.cli import main as train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

EPOCHS = ("0", "1")
USERS, ITEMS, TOP_K, AT_ONCE = 1_000, 3_000, 50, 50
FEW = 200  # users who show that all is as before
# a processor may sum a user of 50 and one of 64 in another order: items whose scores are that near
# may change places, and only they
TIE, MOST_TIES = 1e-5, 3


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> ServiceSettings:
    """1,000 test users, a MIND of two epochs and a ranker beside each, trained for a moment."""
    folder = tmp_path_factory.mktemp("ranked_online")
    size = ["--users", str(10 * USERS), "--items", str(ITEMS), "--clicks", "200000"]
    assert prepare(["--sample", *size, "--out", str(folder / "data")]) == 0
    options = [f"runner.model_save_path={folder / 'out'}", "runner.epochs=2"]
    options += ["runner.batches_per_epoch=60", "hyper_parameters.neg_samples=256"]
    assert train(["-m", "mind/config.yaml", "--data", str(folder / "data"), "-o", *options]) == 0
    for epoch in EPOCHS:
        train_small(settings_in(folder, "out", epoch).trained)
    put(folder, "0")
    return settings_in(folder, "served")


def put(folder: Path, epoch: str) -> None:
    """Write this epoch and its ranker over what is served."""
    shutil.rmtree(folder / "served", ignore_errors=True)
    shutil.copytree(folder / "out" / epoch, folder / "served" / "0")


def settings_in(folder: Path, checkpoints: str, epoch: str = "0") -> ServiceSettings:
    return service_settings(
        "mind/config.yaml",
        [
            f"runner.infer_load_path={folder / checkpoints}",
            f"milvus.uri={folder / 'milvus.db'}",
            *("index.type=FLAT", "hyper_parameters.neg_samples=256"),
        ],
        folder / "data",
        epoch,
        timeout=30.0,
        ranking_timeout=60.0,
        registry=folder / "kept",
    )


@pytest.fixture(scope="module")
def offline(settings) -> Evaluation:
    source = settings.source
    return Evaluation(settings_for(source.yaml, source.options, source.data), TOP_K, rank=True)


@pytest.fixture(scope="module")
def item_ids(settings) -> IdMap:
    return read_item_ids(settings.trained.data)


@pytest.fixture(scope="module")
def histories(offline, item_ids) -> list[list[OwnId]]:
    assert len(offline.users) == USERS
    return [item_ids.own_ids(one.tolist()) for one in offline.users.history_list()]


@pytest.fixture(scope="module")
def service(settings) -> Iterator[Running]:
    with running(settings) as started:
        assert started.http.post("/insert").json()["inserted"] == ITEMS
        yield started


def online_lists(service: Running, histories: list[list[OwnId]]) -> list[list[OwnId]]:
    lists: list[list[OwnId]] = []
    for start in range(0, len(histories), AT_ONCE):
        lists += ids(_answered(service, histories[start : start + AT_ONCE]))
    return lists


def _answered(service: Running, histories: list[list[OwnId]]) -> dict[str, Any]:
    answer = recommended(service, *histories, top_k=TOP_K, consistency="Strong")
    assert answer["source"] == ["ranked"] * len(histories)
    assert not any(answer["unknown"])
    return answer


def offline_users(offline: Evaluation, service: Running, checkpoint: Path) -> RankedUsers:
    """By what the service's Milvus holds now; the ranker is that of ``checkpoint``."""
    offline.encoder.load(checkpoint)
    with retriever_from_settings(offline.settings) as retriever:
        retriever.open()
        table = offline.encoder.item_vectors()
        model, ranked = offline.ranked_lists(checkpoint, table, retriever)
    assert recommended(service, [])["ranker"] == model.manifest.digest
    return ranked


def same_lists(
    offline: RankedUsers,
    service: Running,
    histories: list[list[OwnId]],
    item_ids: IdMap,
    gone: Set[int] = frozenset(),
) -> list[list[OwnId]]:
    """The service's lists, which are those of ``offline`` without the items ``gone``."""
    online = online_lists(service, histories)
    expected = [
        [item for item in row if item not in gone and item > 0][:TOP_K]
        for row in offline.ranked.tolist()
    ]
    own = [[_own(item, item_ids) for item in row] for row in expected]
    assert len(own) == USERS
    wrong = [row for row in range(USERS) if own[row] != online[row]]
    assert len(wrong) <= MOST_TIES, f"{len(wrong)} lists differ, the first of user {wrong[0]}"
    for row in wrong:
        require_same(own[row], _answered(service, [histories[row]]))
    return online


def require_same(expected: list[OwnId], answer: dict[str, Any]) -> None:
    """The answer for one user holds ``expected``, in that order but for ties."""
    (listed,) = answer["recommendations"]
    scores = {one["id"]: one["score"] for one in listed}
    assert set(expected) == scores.keys()
    apart = [abs(scores[a] - scores[b]) for a, b in zip(expected, scores, strict=True)]
    assert max(apart) < TIE, f"{expected} and {list(scores)}"


def _own(item: int, item_ids: IdMap) -> OwnId:
    if item >= FIRST_NEW:
        return item - FIRST_NEW
    own = item_ids.own(item)
    assert own is not None
    return own


@pytest.fixture(scope="module")
def unchanged(offline, service, settings, histories, item_ids) -> list[list[OwnId]]:
    """The lists before any update."""
    return same_lists(
        offline_users(offline, service, settings.checkpoint), service, histories, item_ids
    )


def test_they_have_the_relevance_that_infer_reports(
    unchanged, offline, settings, item_ids, tmp_path
) -> None:
    """The command itself, which puts the vectors into a collection of its own."""
    report, source = tmp_path / "report.json", settings.source
    arguments = ["-m", "mind/config.yaml", "--data", str(source.data), "--rank"]
    options = ["runner.infer_start_epoch=0", "runner.infer_end_epoch=1", *source.options]
    assert infer([*arguments, "--report", str(report), "-o", *options]) == 0
    measured = json.loads(report.read_text())["ranking"]
    lists = np.array([[item_ids.number(item) for item in row] for row in unchanged])
    users = offline.users
    for top_n in (10, 50):
        values = relevance_by_user(lists, users.truth_indptr, users.truths, top_n)
        for name in ("recall", "ndcg", "hitrate"):
            mean = float(values[f"{name}@{top_n}"].mean())
            assert mean == pytest.approx(measured["ranked"][f"{name}@{top_n}"], abs=1e-12)


def test_items_deleted_and_put_back(
    unchanged, offline, service, settings, histories, item_ids
) -> None:
    """What remains keeps its order: other channels' places count deleted items, too."""
    often = Counter(item for row in unchanged for item in row).most_common(30)
    own = [item for item, _ in often]
    for item in own:
        assert service.http.delete(f"/items/{item}").status_code == 200
    gone = {number for number in map(item_ids.number, own) if number is not None}
    ranked = offline_users(offline, service, settings.checkpoint)
    assert same_lists(ranked, service, histories, item_ids, gone) != unchanged
    vectors = offline.encoder.item_vectors()
    items = [{"id": item, "vector": vectors[item_ids.number(item)].tolist()} for item in own]
    assert service.http.post("/items", json={"items": items}).json()["upserted"] == len(own)
    assert online_lists(service, histories[:FEW]) == unchanged[:FEW]


def test_items_that_the_model_does_not_have(
    unchanged, offline, service, settings, histories, item_ids
) -> None:
    """They come from the interests alone."""
    offline.encoder.load(settings.checkpoint)
    vectors = 0.999 * offline.encoder.item_vectors()  # beside others, but no tie
    near = [item for item, _ in Counter(row[0] for row in unchanged).most_common(20)]
    new = [2_000_000 + place for place in range(len(near))]
    items = [
        {"id": own, "vector": vectors[item_ids.number(item)].tolist()}
        for own, item in zip(new, near, strict=True)
    ]
    assert service.http.post("/items", json={"items": items}).json()["upserted"] == len(new)
    ranked = offline_users(offline, service, settings.checkpoint)
    lists = same_lists(ranked, service, histories, item_ids)
    assert any(set(new) & set(row) for row in lists)
    for own in new:
        assert service.http.delete(f"/items/{own}").status_code == 200
    assert online_lists(service, histories[:FEW]) == unchanged[:FEW]


def test_another_ranker_and_another_model_and_back(
    unchanged, offline, service, settings, histories, item_ids
) -> None:
    def same() -> list[list[OwnId]]:
        ranked = offline_users(offline, service, settings.checkpoint)
        return same_lists(ranked, service, histories, item_ids)

    train_small(settings.trained, trees=20, seed=2)
    assert online_lists(service, histories[:FEW]) == unchanged[:FEW]
    assert service.http.post("/insert").status_code == 200
    assert same() != unchanged
    assert service.http.post("/rollback").status_code == 200
    assert online_lists(service, histories[:FEW]) == unchanged[:FEW]
    put(settings.checkpoint.parent.parent, "1")
    assert service.http.post("/insert").status_code == 200
    assert same() != unchanged
    assert service.http.post("/rollback").status_code == 200
    assert online_lists(service, histories[:FEW]) == unchanged[:FEW]
    put(settings.checkpoint.parent.parent, "0")


def test_stored_users_get_the_lists_of_their_histories(service, unchanged, histories) -> None:
    for user, history in enumerate(histories[:100]):
        sent = service.http.post(f"/users/{user}/events", json={"items": history})
        assert sent.status_code == 200, sent.text
        query = {"top_k": TOP_K, "consistency": "Strong"}
        answer = service.http.get(f"/users/{user}/recommendations", params=query).json()
        assert answer["source"] == ["ranked"]
        require_same(unchanged[user], answer)
        more = unchanged[user][:3]
        service.http.post(f"/users/{user}/events", json={"items": more})
        answer = service.http.get(f"/users/{user}/recommendations", params=query).json()
        assert answer == recommended(service, [*history, *more], **query)
