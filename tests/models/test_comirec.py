# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""ComiRec's two ways from clicks to interests against loops in numpy, its loss, and REMI's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_models import ZOO, Array, D, K, L, SmallModel, larger_items, some_users

BOTH = ["comirec_sa", "comirec_dr"]


def made(small: SmallModel, model: Any, history: Array, lengths: Array) -> tuple[Array, Array]:
    """Vectors [B, K, D] and weights [B, K, L]."""
    batch = [history, lengths, np.zeros((len(history), 1, 1), "int64")]
    found = small.contract.infer_forward(model, None, batch, small.config)
    return tuple(part.numpy() for part in found)  # type: ignore[return-value]


def unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def squashed(z: Array) -> Array:
    squared = (z**2).sum(-1, keepdims=True)
    return np.asarray(squared / (1 + squared) * z / np.sqrt(squared + 1e-9))


def test_attention_by_a_loop() -> None:
    small = SmallModel("comirec_sa")
    model = larger_items(small.build())
    history, lengths = some_users()
    vectors, weights = made(small, model, history, lengths)
    np.testing.assert_allclose(weights.sum(axis=2), 1, atol=1e-5)
    assert (weights[np.broadcast_to((np.arange(L) >= lengths)[:, None], weights.shape)] == 0).all()
    items = small.contract.item_vectors(model).numpy()
    ages, hidden, heads = (p.numpy() for p in (model.ages, model.hidden.weight, model.heads.weight))
    for user, (length,) in enumerate(lengths):
        clicks = items[history[user, :length]]
        seen = clicks * np.sqrt(D) + ages[:length][::-1]  # the last click has age 0
        scores = np.exp(np.tanh(seen @ hidden) @ heads)
        shares = (scores / scores.sum(axis=0)).T
        np.testing.assert_allclose(weights[user, :, :length], shares, atol=1e-5)
        np.testing.assert_allclose(vectors[user], unit(shares @ clicks), atol=1e-5)


@pytest.mark.parametrize("iters", [1, 2, 3])
@pytest.mark.parametrize("normalize", [True, False])
def test_routing_by_a_loop(iters: int, normalize: bool) -> None:
    small = SmallModel("comirec_dr", iters=iters, normalize=normalize)
    model = larger_items(small.build())
    history, lengths = some_users()
    vectors, weights = made(small, model, history, lengths)
    items = small.contract.item_vectors(model).numpy().astype("float64")
    maps = model.maps.numpy().reshape(L, D, K, D)
    for user, (length,) in enumerate(lengths):
        clicks = items[history[user, :length]]
        mapped = np.stack(
            [np.einsum("d,dke->ke", c, maps[length - 1 - t]) for t, c in enumerate(clicks)]
        )  # [n, K, D]
        logits = np.zeros((length, K))
        for iteration in range(iters):
            shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            total = np.einsum("nk,nkd->kd", shares, mapped)
            if iteration < iters - 1:
                logits = logits + np.einsum("nkd,kd->nk", mapped, squashed(total))
        np.testing.assert_allclose(weights[user, :, :length], shares.T, atol=1e-4)
        assert (weights[user, :, length:] == 0).all()
        expected = unit(total) if normalize else squashed(total)
        np.testing.assert_allclose(vectors[user], expected, atol=1e-4)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("attention", ["max", "hard"])
def test_loss_by_brute_force(name: str, attention: str) -> None:
    small = SmallModel(name, sampler="all", temperature=0.5, attention=attention)
    model = larger_items(small.build())
    history, lengths = some_users()
    labels = np.array([[3], [8], [3], [29], [1]])
    vectors, _ = made(small, model, history, lengths)
    items = small.contract.item_vectors(model).numpy().astype("float64")
    losses = []
    for interests, (label,) in zip(vectors, labels, strict=True):
        if attention == "hard":  # the target chooses for all
            interests = interests[[(interests @ items[label]).argmax()]]
        scores = (interests @ items[1:].T).max(axis=0) / 0.5
        losses.append(np.log(np.exp(scores).sum()) - scores[label - 1])
    loss = float(small.loss(model, [history, labels, lengths]))
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize("name", BOTH)
def test_the_penalty_by_numpy_and_its_gradient(name: str) -> None:
    history, lengths = some_users()
    labels = np.array([[3], [8], [3], [29], [1]])
    losses, slopes, penalty = [], [], 0.0
    for factor in (0.0, 200.0):
        small = SmallModel(name, sampler="all", routing_penalty=factor)
        model = larger_items(small.build())
        _, weights = made(small, model, history, lengths)
        penalty = factor * (weights.var(axis=2) ** 2).sum(axis=1).mean()
        loss = small.loss(model, [history, labels, lengths])
        loss.backward()
        losses.append(float(loss))
        slopes.append((model.maps if name == "comirec_dr" else model.hidden.weight).grad.numpy())
    assert losses[1] - losses[0] == pytest.approx(penalty, rel=1e-2)
    assert penalty > 1e-2
    assert np.abs(slopes[1] - slopes[0]).max() > 1e-4


def test_remi_is_a_recipe_over_comirec_sa() -> None:
    for file in (ZOO / "comirec_sa").glob("*.py"):
        assert (ZOO / "remi" / file.name).resolve() == file.resolve()
    config, plain = SmallModel("remi").config, SmallModel("comirec_sa").config
    changed = {
        key for key in config if key.startswith("hyper_parameters.") and config[key] != plain[key]
    }
    assert changed == {"hyper_parameters.hard_negatives", "hyper_parameters.routing_penalty"}
    assert config["hyper_parameters.hard_negatives"] > 0
    assert config["hyper_parameters.routing_penalty"] > 0
