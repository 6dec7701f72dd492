# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Transitions as a part of vectors: tables start from the log, scores are sums of both parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest
from small_models import D, K, L, SmallModel, V, some_clicks, some_users, unit

SMALL = SmallModel("mind_unseen")


def test_counts_by_a_loop() -> None:
    users, items = some_clicks()
    counts = np.zeros((V, V))
    for i in range(len(items)):
        for j in range(i + 1, min(i + 11, len(items))):
            if users[i] == users[j] and items[i] != items[j]:
                counts[items[i], items[j]] += 1 / (j - i)
    of_log = SMALL.module("item_start").transition_counts(users, items, V)
    np.testing.assert_allclose(of_log.toarray(), counts, rtol=1e-5)
    assert SMALL.module("item_start").transition_counts(users[:1], items[:1], V).nnz == 0


@pytest.mark.parametrize("rank", [D, V + 4])
def test_low_rank_is_the_singular_values(rank: int) -> None:
    matrix = SMALL.module("item_start").transition_counts(*some_clicks(), V).astype(np.float64)
    left, right = SMALL.module("low_rank").low_rank(matrix, rank)
    vectors, values, others = np.linalg.svd(matrix.toarray())
    exact = (vectors[:, :rank] * values[:rank]) @ others[:rank]
    assert left.shape == right.shape == (V, rank)
    np.testing.assert_allclose(left @ right.T, exact, atol=1e-3 * values[0])


def test_tables_start_from_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    model, chance = SMALL.build(), SMALL.build()
    SMALL.start(model, some_clicks(), monkeypatch)
    table = model.item_emb.weight.numpy()
    np.testing.assert_allclose(np.linalg.norm(table[1:31], axis=1), 0.3, rtol=1e-5)
    assert (table[31:] == chance.item_emb.weight.numpy()[31:]).all()  # no click says where
    assert (table[0] == 0).all()
    near = unit(table[1:31]) @ unit(table[1:31]).T
    steps = (np.arange(30) - np.arange(30)[:, None]) % 30
    assert near[steps == 1].mean() > near[steps == 15].mean() + 0.5
    before, after = (
        each.weight.numpy()[1:31]
        for each in (model.transitions.before_emb, model.transitions.after_emb)
    )
    follows = unit(before) @ unit(after).T
    assert follows[steps == 1].mean() > follows[steps == 29].mean() + 0.5  # not the way back


def test_a_static_graph_starts_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paddle, "in_dynamic_mode", lambda: False)
    with pytest.raises(ValueError, match="item_start: random"):
        SMALL.contract.create_optimizer(SMALL.build(), SMALL.config)


def test_a_score_is_the_best_interest_and_transitions() -> None:
    small = SmallModel("mind_unseen", **{"transitions.weight": 0.5, "seen.weight": 0.0})
    model = small.build()
    plain = SmallModel("mind").build()
    plain.set_state_dict(
        {key: value for key, value in model.state_dict().items() if "transitions" not in key}
    )
    model.transitions.recency.set_value(np.linspace(0, -1, L).astype("float32"))
    history, lengths = some_users()
    interests = SmallModel("mind").user_vectors(plain, history, lengths)
    items = plain.item_vectors().numpy()
    before, after = (
        unit(each.weight.numpy())
        for each in (model.transitions.before_emb, model.transitions.after_emb)
    )
    scores = np.einsum("ukd,id->uki", interests, items)
    for user, (length,) in enumerate(lengths):
        ages = length - 1 - np.arange(length)
        weights = np.exp(np.linspace(0, -1, L))[ages]
        own = unit(weights @ before[history[user, :length]])
        scores[user] += 0.5 * after @ own
    joined = small.user_vectors(model, history, lengths)
    searched = np.einsum("ukd,id->uki", joined, small.contract.item_vectors(model).numpy())
    np.testing.assert_allclose(searched * np.sqrt(2 * 1.25), scores, atol=1e-5)
    assert joined.shape == (len(history), K, 3 * D)
    small.contract.freeze(model)
    assert (small.user_vectors(model, history, lengths) == joined).all()


def test_the_loss_is_the_sum_of_both() -> None:
    small = SmallModel(
        "mind_unseen", dropout=0.0, **{"transitions.dropout": 0.0, "seen.weight": 0.0}
    )
    plain = SmallModel("mind")
    model, without = small.build(), plain.build()
    history, lengths = some_users()
    batch = [history, np.arange(1, 6)[:, None], lengths]
    paddle.seed(7)
    both = float(small.loss(model, batch))
    without.set_state_dict(
        {key: value for key, value in model.state_dict().items() if "transitions" not in key}
    )
    paddle.seed(7)
    first = float(plain.loss(without, batch))
    paddle.seed(7)
    labels = paddle.to_tensor(batch[1].reshape(-1))
    ids = model.softmax.draw(labels)
    tensors = (paddle.to_tensor(part) for part in (history, lengths))
    second = float(model.transitions.loss(model.softmax, *tensors, labels, ids))
    assert both == pytest.approx(first + second, rel=1e-6)


@pytest.mark.parametrize("without", ["seen.weight", "transitions.weight"])
def test_a_new_item_has_a_first_part_alone(tmp_path: Path, without: str) -> None:
    (tmp_path / "train").mkdir()
    rows = "\n".join(f"{item},{item % 3 + 1}" for item in range(1, V))
    (tmp_path / "item_features.csv").write_text(f"item,category\n{rows}\n")
    data = f"runner.train_data_dir={tmp_path / 'train'}"
    small = SmallModel("mind_unseen", data, item_features=True, **{without: 0.0})
    model = small.build()
    ids, codes = np.array([2, V + 5]), np.array([[3], [3]])
    known, new = small.contract.vectors_of_features(model, ids, codes).numpy()
    np.testing.assert_allclose(known, small.contract.item_vectors(model).numpy()[2], atol=1e-6)
    assert np.linalg.norm(new[:D]) == pytest.approx(0.5**0.5, rel=1e-4)
    assert (new[D:] == 0).all()
