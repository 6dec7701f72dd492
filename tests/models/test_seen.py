# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""MIND for unseen items: tables start from the log, what was clicked leads no list."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import D, K, SmallModel, larger_items, some_clicks, some_users, unit

ALONE = {"transitions.weight": 0.0}
SMALL = SmallModel("mind_unseen", **ALONE)


def test_neighbours_are_turned_away_from_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    model, chance = SMALL.build(), SMALL.build()
    SMALL.start(model, some_clicks(), monkeypatch)
    steps = (np.arange(30) - np.arange(30)[:, None]) % 30
    seen, before = (each.seen.emb.weight.numpy() for each in (model, chance))
    np.testing.assert_allclose(seen[31:], unit(before[31:]), rtol=1e-5)  # no click says where
    products, random = (abs(unit(each[1:31]) @ unit(each[1:31]).T) for each in (seen, before))
    neighbours = (steps <= 2) | (steps >= 28)
    np.fill_diagonal(neighbours, False)
    assert products[neighbours].mean() < 0.5 * random[neighbours].mean()


def test_a_score_is_the_best_interest_less_what_was_seen() -> None:
    small = SmallModel(
        "mind_unseen", **{**ALONE, "seen.weight": 0.5, "seen.above": 0.2, "seen.dim": 6}
    )
    model = larger_items(small.build())
    plain = SmallModel("mind").build()
    plain.set_state_dict(
        {key: value for key, value in model.state_dict().items() if "seen" not in key}
    )
    history, lengths = some_users()
    interests = SmallModel("mind").user_vectors(plain, history, lengths)
    scores = np.einsum("ukd,id->uki", interests, plain.item_vectors().numpy())
    seen = unit(model.seen.emb.weight.numpy())
    shares = []
    for user, (length,) in enumerate(lengths):
        clicked = history[user, :length]
        above = np.maximum(scores[user].max(axis=0)[clicked] - 0.2, 0.0)
        own = 0.5 * above @ seen[clicked]
        assert (above > 0).any()
        scores[user] -= seen @ own
        shares.append(np.sqrt(2 * (1 + own @ own)))
    joined = small.user_vectors(model, history, lengths)
    searched = np.einsum("ukd,id->uki", joined, small.contract.item_vectors(model).numpy())
    np.testing.assert_allclose(searched * np.array(shares)[:, None, None], scores, atol=1e-5)
    assert joined.shape == (len(history), K, D + 6)


def test_what_follows_counts_in_what_was_seen() -> None:
    small = SmallModel("mind_unseen", **{"seen.above": 0.2})
    model = larger_items(small.build())
    with_seen = small.user_vectors(model, *some_users())
    items = small.contract.item_vectors(model).numpy() * np.sqrt(3)
    history, lengths = some_users()
    both = with_seen / np.linalg.norm(with_seen[..., :D], axis=2, keepdims=True)
    for user, (length,) in enumerate(lengths):
        clicked = history[user, :length]
        scores = (both[user, :, : 3 * D] @ items[clicked, : 3 * D].T).max(axis=0)
        above = np.maximum(scores - 0.2 * 1.5, 0.0)
        np.testing.assert_allclose(
            both[user, 0, 3 * D :], -0.6 * above @ items[clicked, 3 * D :], atol=1e-5
        )
    np.testing.assert_allclose(np.linalg.norm(with_seen, axis=2), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(items[1:], axis=1), np.sqrt(3), atol=1e-4)


def test_what_was_clicked_does_not_lead_the_list() -> None:
    history, lengths = some_users()
    shares = []
    for weight in (0.0, 0.8):
        small = SmallModel("mind_unseen", **{**ALONE, "seen.weight": weight, "seen.dim": 64})
        model = larger_items(small.build())
        vectors = small.user_vectors(model, history, lengths)
        items = small.contract.item_vectors(model).numpy()
        first = np.einsum("ukd,id->uki", vectors, items[1:]).max(axis=1).argmax(axis=1) + 1
        shares.append(np.mean([item in past for item, past in zip(first, history, strict=True)]))
    assert shares[0] > 0.7
    assert shares[1] < 0.3


def test_only_what_learns_has_a_gradient() -> None:
    model = SMALL.build()
    assert not [name for name, p in model.named_parameters() if p.trainable and "seen" in name]
    assert "seen.emb.weight" in model.state_dict()
