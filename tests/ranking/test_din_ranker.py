# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""DIN over the vector model's order: what it learns, repeats, and leaves as it was; on disk."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import paddle
import pytest
from small_ranking import CATEGORIES, ITEMS, VECTORS, lists_of, model_of, searched

from paddlerec_milvus.config import load_settings
from paddlerec_milvus.errors import CheckpointError, DataError, TrainingError
from paddlerec_milvus.ranking import din_training
from paddlerec_milvus.ranking.din_ranker import DinRanker
from paddlerec_milvus.ranking.din_training import fit_din
from paddlerec_milvus.ranking.features import FEATURES, GROUPS, SCORE
from paddlerec_milvus.ranking.files import (
    DIN,
    FOLDER,
    MANIFEST,
    TABLES,
    categories_digest,
    read_manifest,
)
from paddlerec_milvus.ranking.ranking_model import load_ranking
from paddlerec_milvus.ranking.samples import RankingLists

SIGNAL = "popularity"
QUICK = ("runner.train_batch_size=8", "hyper_parameters.optimizer.learning_rate=0.02")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch)


def use(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    """Settings for lists that are few."""
    monkeypatch.setattr(
        din_training, "load_settings", lambda yaml: load_settings(yaml, [*QUICK, *options])
    )


def fit(lists: RankingLists, seed: int = 1, features: tuple[str, ...] = FEATURES) -> DinRanker:
    return fit_din(lists, VECTORS, CATEGORIES, seed, features)


def by_list(ranker: DinRanker, lists: RankingLists) -> np.ndarray:
    """Scores [g, candidates] of lists of the same size."""
    size, rows = int(lists.sizes[0]), []
    for place, clicks in enumerate(lists.clicks):
        part = slice(place * size, (place + 1) * size)
        rows.append(ranker.scores(lists.rows[part], lists.items[part], clicks[clicks > 0]))
    return np.stack(rows)


def mean_place(ranker: DinRanker, lists: RankingLists) -> float:
    """Of the clicked items, from 0."""
    scores = by_list(ranker, lists)
    labels = lists.labels.reshape(scores.shape)
    return float((scores > np.where(labels, scores, -np.inf).max(axis=1)[:, None]).sum(1).mean())


def test_it_finds_a_planted_signal() -> None:
    ranker = fit(lists_of(40, 30, 2, SIGNAL))
    assert mean_place(ranker, lists_of(20, 30, 9, SIGNAL)) < 4  # by chance 14.5


def planted(seed: int) -> RankingLists:
    """Clicked is what points as the last-but-one of the clicks does, whatever the features say."""
    lists = lists_of(80, 20, seed)
    near = np.argsort(-(VECTORS @ VECTORS.T), axis=1)[:, :2]  # itself, as a rule, and its nearest
    items, labels = lists.items.reshape(80, 20).copy(), np.zeros((80, 20), np.bool_)
    lists.clicks[:, :2] = np.maximum(lists.clicks[:, :2], 1)
    items[:, 7] = near[lists.clicks[:, 1], 1]
    labels[:, 7] = True
    return lists._replace(items=items.ravel(), labels=labels.ravel())


def test_it_learns_from_clicks_and_directions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "hyper_parameters.dense_features=0")
    ranker = fit(planted(2))
    ranker.start = 0.0
    assert mean_place(ranker, planted(3)) < 6  # by chance 9.5


def test_the_same_seed_gives_the_same_numbers_and_another_others() -> None:
    lists = lists_of(20, 30, 2, SIGNAL)
    first, again, other = (fit(lists, seed).content() for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("gains", "learned"), [([0, 0, 0], False), ([-3, -2, 1], False), ([-3, -2, 4], True)]
)
def test_what_orders_lists_worse_leaves_the_order_of_the_vector_model(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    gains: list[int],
    learned: bool,
) -> None:
    measured = iter([np.zeros(3), np.array(gains) / 10])
    monkeypatch.setattr(din_training, "list_ndcg", lambda *arguments: next(measured))
    lists = lists_of(15, 20, 3)
    scores = by_list(fit(lists), lists).ravel()
    score = lists.rows[:, FEATURES.index(SCORE)]
    assert (np.argsort(scores).tolist() != np.argsort(score).tolist()) == learned
    assert ("keeps the vector model's order" in capsys.readouterr().err) != learned
    assert learned or np.std(scores) == pytest.approx(din_training.START, rel=0.1)


@pytest.mark.parametrize("categories", [CATEGORIES, np.full(ITEMS, -1)])
@pytest.mark.parametrize("options", [(), ("hyper_parameters.dense_features=0",)])
def test_numpy_gives_what_the_network_gives(
    monkeypatch: pytest.MonkeyPatch, categories: np.ndarray, options: tuple[str, ...]
) -> None:
    use(monkeypatch, "hyper_parameters.attention_units=[8, 4]", *options)
    lists = lists_of(12, 30, 4, SIGNAL)
    lists.rows[::3, FEATURES.index("interest_rank")] = np.nan
    trainer = din_training._Trainer(lists, VECTORS, categories, 1, FEATURES)
    first = trainer.epoch()
    assert [trainer.epoch() for _ in range(10)][-1] < first
    trainer.network.eval()
    batch = din_training.Batch(
        np.arange(len(lists.rows)).reshape(12, 30), np.ones((12, 30), np.bool_), lists.clicks
    )
    with paddle.no_grad():
        logits = trainer._logits(batch).numpy()
    np.testing.assert_allclose(by_list(trainer.ranker(), lists), logits, atol=1e-5)
    assert logits.std(axis=1).min() > 0.1


def test_items_learn_where_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = lists_of(40, 30, 4, SIGNAL)
    items = [fit(lists).network[din_training.ITEMS]]
    use(monkeypatch, "hyper_parameters.train_items=True")
    items.append(fit(lists).network[din_training.ITEMS])
    start = din_training.directions(VECTORS, items[0].shape[1])
    assert [np.array_equal(one, start) for one in items] == [True, False]


def test_a_network_that_diverges_is_no_ranker(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "hyper_parameters.optimizer.learning_rate=1e38")
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf); lower .*learning_rate"):
        fit(lists_of(40, 30, 4, SIGNAL))


def test_a_step_sees_what_was_clicked_and_some_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(din_training, "SAMPLED", 5)
    lists = lists_of(12, 30, 4, SIGNAL)
    trainer = din_training._Trainer(lists, VECTORS, CATEGORIES, 1, FEATURES)
    for batch in trainer._batches():
        assert batch.rows.shape[1] == 6
        assert (lists.labels[batch.rows].sum(axis=1) == 1).all()
        assert (batch.rows // 30 == batch.rows[:, :1] // 30).all()  # of one list
        own = lists.clicks[batch.rows[:, 0] // 30]
        assert batch.clicks.tolist() == own.tolist()


def test_unknown_features_and_later_items_are_scored() -> None:
    lists = lists_of(20, 30, 6, SIGNAL)
    unknown = [FEATURES.index(name) for name in ("interest_rank", *GROUPS["channel_ranks"])]
    lists.rows[:, unknown] = np.nan
    ranker, clicks = fit(lists), np.array([3])
    rows, items = lists.rows[:2], np.array([ITEMS, ITEMS + 7])
    late = ranker.scores(rows, items, clicks)
    assert late.tolist() == ranker.scores(rows, np.array([0, 0]), clicks).tolist()
    assert np.isfinite(late).all()


def test_a_network_of_some_features_reads_no_others() -> None:
    lists = lists_of(20, 30, 7, SIGNAL)
    ranker = fit(lists, features=(SIGNAL, "category_age"))
    changed = lists._replace(rows=lists.rows.copy())
    others = [i for i, name in enumerate(FEATURES) if name not in (*ranker.features, SCORE)]
    changed.rows[:, others] = 7.0
    assert by_list(ranker, changed).tolist() == by_list(ranker, lists).tolist()


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_few_lists_are_refused(count: int) -> None:
    with pytest.raises(DataError, match=f"^{count} lists with a later click .*, at least 10 are"):
        fit(lists_of(count, 9, 1))


def test_directions_keep_inner_products_and_padding() -> None:
    flat = din_training.directions(VECTORS, VECTORS.shape[1])
    inner, before = flat[1:] @ flat[1:].T, VECTORS[1:] @ VECTORS[1:].T
    np.testing.assert_allclose(inner / inner[0, 0], before / before[0, 0], rtol=1e-4, atol=1e-4)
    assert np.linalg.norm(flat[1:], axis=1).mean() == pytest.approx(1)
    assert not flat[0].any()


def test_what_is_no_network_is_refused() -> None:
    ranker = fit(lists_of(10, 10, 2))
    content, start, none = ranker.content(), ranker.start, np.full(ITEMS, -1)
    assert DinRanker.of_content(content, start, FEATURES, none).content() == content
    for bad in (b"", content[:-9], b"no network"):
        with pytest.raises(CheckpointError, match="the network of a ranker cannot be read"):
            DinRanker.of_content(bad, start, FEATURES, none)
    before = io.BytesIO()
    np.savez(before, **{f"0.{name}": array for name, array in ranker.network.items()})
    with pytest.raises(CheckpointError, match=r"an earlier version.*train it anew"):
        DinRanker.of_content(before.getvalue(), start, FEATURES, none)
    for features, items in ((FEATURES[1:], none), (FEATURES, np.full(ITEMS + 1, -1))):
        with pytest.raises(CheckpointError, match="the network of a ranker cannot be read"):
            DinRanker.of_content(content, start, features, items)


def test_what_was_saved_gives_the_same_lists_and_a_changed_file_is_refused(tmp_path: Path) -> None:
    model = model_of(fit(lists_of(20, 30, 2, SIGNAL)))
    model.save(tmp_path)
    folder = tmp_path / FOLDER
    assert {file.name for file in folder.iterdir()} == {MANIFEST, TABLES, DIN}
    assert read_manifest(folder).ranker == "din"
    again = load_ranking(tmp_path, VECTORS, CATEGORIES, "m", "d")
    for one in searched(range(5)):
        theirs, ours = (
            side.rank(one.clicks, one.interests, one.hits, set(one.moment.history.tolist()), 20)
            for side in (again, model)
        )
        assert [part.tolist() for part in theirs if part is not None] == [
            part.tolist() for part in ours if part is not None
        ]
    changed = model.manifest.model_copy(update={"categories": categories_digest(CATEGORIES)})
    (folder / MANIFEST).write_text(changed.model_dump_json(), encoding="utf-8")
    load_ranking(tmp_path, VECTORS, CATEGORIES, "m", "d")
    other = np.where(CATEGORIES > 0, 0, CATEGORIES)  # the first category has gone
    with pytest.raises(CheckpointError, match=r"trained with other categories .*items.csv has"):
        load_ranking(tmp_path, VECTORS, other, "m", "d")
    content = bytearray((folder / DIN).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / DIN).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(folder / DIN))}: is not the file"):
        load_ranking(tmp_path, VECTORS, CATEGORIES, "m", "d")
