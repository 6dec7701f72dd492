# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The routing against a loop over clicks in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from small_mind import Array, D, K, L, build, interests, module, some_users

capsules = module("capsules")
squash = module("item_table").squash


def layer_of(max_k: int = K, **changed: Any) -> Any:
    paddle.seed(2)
    given = {
        "iters": 3,
        "init_std": 1.0,
        "routing_init": "item",
        "map_init": "normal",
        "recency": False,
        "context": False,
        "dynamic_k": False,
        **changed,
    }
    return capsules.InterestCapsules(D, max_k, L, **given)


def np_squash(z: Array) -> Array:
    squared = (z**2).sum(-1, keepdims=True)
    return np.asarray(squared / (1 + squared) * z / np.sqrt(squared + 1e-9))


def np_route(
    mapped: Array, logits: Array, iters: int, of_age: Array, context: Array
) -> tuple[Array, Array]:
    """Routing of one user's mapped clicks [n, D] to interests [K, D] and weights [K, n]."""
    b = logits.copy()
    for iteration in range(iters):
        weights = np.exp(b) / np.exp(b).sum(axis=0)  # over interests, for each click
        weights = weights * of_age
        total = np.stack([sum(w * e for w, e in zip(row, mapped, strict=True)) for row in weights])
        if iteration == iters - 1:
            return np_squash(total + context), weights
        interest = np_squash(total)
        for k in range(len(b)):
            for j in range(len(mapped)):
                b[k, j] += interest[k] @ mapped[j]
    raise AssertionError


def np_user(layer: Any, clicks: Array, max_k: int = K) -> tuple[Array, Array]:
    """What ``layer`` must give for one user's ``clicks`` [n, D] when it has ``max_k`` interests."""
    ages = np.arange(len(clicks))[::-1]  # the last click has age 0
    mapped = clicks @ layer.bilinear_mapping_matrix.numpy().astype("float64")
    table = layer.routing_logits.numpy()[0, :max_k].astype("float64")
    start = table[:, : len(clicks)]
    if layer.routing_init == "item":
        start = table @ (mapped / np.linalg.norm(mapped, axis=1, keepdims=True)).T
    of_age, context = np.ones(len(clicks)), np.zeros(D)
    if layer.recency is not None:
        of_age = np.exp(layer.recency.numpy().astype("float64"))[ages]
    if layer.context_mapping_matrix is not None:
        shares = np.ones(len(clicks))
        if layer.context_recency is not None:
            shares = np.exp(layer.context_recency.numpy().astype("float64"))[ages]
        context = shares @ clicks / shares.sum() @ layer.context_mapping_matrix.numpy()
    return np_route(mapped, start, layer.iters, of_age, context)


def run(layer: Any, history: Any, lengths: Array) -> tuple[Any, Any]:
    """The layer's interests [B, K, D], squashed, and its weights [B, K, L]."""
    counts = paddle.to_tensor(lengths.reshape(-1, 1))
    weights, context = layer.route(history, counts), layer.context(history, counts)
    made = squash(layer.gather(history, weights, context))
    return made, paddle.transpose(weights, [0, 2, 1])


def learn_ages(layer: Any) -> None:
    """Set the weights of ages as if they had been learned."""
    for table, ends in ((layer.recency, (0.5, -2.0)), (layer.context_recency, (1.0, -1.0))):
        if table is not None:
            assert (table.numpy() == 0).all()  # all ages weigh the same at the start
            table.set_value(np.linspace(*ends, L).astype("float32"))


class TestRouting:
    @pytest.mark.parametrize("iters", [1, 2, 3])
    @pytest.mark.parametrize("routing_init", ["item", "position"])
    @pytest.mark.parametrize("recency", [True, False])
    @pytest.mark.parametrize("context", [True, False])
    @pytest.mark.parametrize("weights_learn", [True, False])
    def test_equals_a_loop_over_clicks(
        self, iters: int, routing_init: str, recency: bool, context: bool, weights_learn: bool
    ) -> None:
        layer = layer_of(
            iters=iters,
            routing_init=routing_init,
            recency=recency,
            context=context,
            weights_learn=weights_learn,
        )
        learn_ages(layer)
        if context:
            values = np.random.default_rng(1).normal(size=(D, D)).astype("float32")
            layer.context_mapping_matrix.set_value(values)
        history = np.random.default_rng(0).normal(size=(4, L, D)).astype("float32")
        lengths = np.array([L, 3, 1, 4])
        vectors, weights = run(layer, paddle.to_tensor(history), lengths)
        for user, length in enumerate(lengths):
            expected, shares = np_user(layer, history[user, :length].astype("float64"))
            np.testing.assert_allclose(vectors.numpy()[user], expected, rtol=3e-4, atol=1e-5)
            found = weights.numpy()[user]
            np.testing.assert_allclose(found[:, :length], shares, rtol=3e-4, atol=1e-5)
            assert (found[:, length:] == 0).all()

    def test_maps_that_start_at_the_identity(self) -> None:
        layer = layer_of(map_init="identity", context=True)
        assert (layer.bilinear_mapping_matrix.numpy() == np.eye(D)).all()
        assert (layer.context_mapping_matrix.numpy() == np.eye(D)).all()

    @pytest.mark.parametrize("weights_learn", [True, False])
    def test_the_gradient_flows_through_the_routing_only_where_it_says_so(
        self, weights_learn: bool
    ) -> None:
        layer = layer_of(weights_learn=weights_learn)
        rng = np.random.default_rng(0)
        values = rng.normal(size=(1, L, D)).astype("float32")
        direction = rng.normal(size=(K, D))
        history = paddle.to_tensor(values, stop_gradient=False)
        vectors, weights = run(layer, history, np.array([L]))
        (vectors[0] * paddle.to_tensor(direction.astype("float32"))).sum().backward()
        bilinear = layer.bilinear_mapping_matrix.numpy().astype("float64")
        held = weights.numpy()[0].astype("float64")

        def value(clicks: Array) -> float:
            made = np_user(layer, clicks)[0]
            if not weights_learn:
                made = np_squash(held @ (clicks @ bilinear))
            return float((made * direction).sum())

        slope = np.zeros((L, D))
        for place in np.ndindex(L, D):
            step = np.zeros((L, D))
            step[place] = 1e-5
            slope[place] = (value(values[0] + step) - value(values[0] - step)) / 2e-5
        np.testing.assert_allclose(history.grad.numpy()[0], slope, rtol=2e-3, atol=1e-4)
        assert layer.routing_logits.stop_gradient

    def test_squash_keeps_direction_and_bounds_length(self) -> None:
        # |z| = 3: 9 / (1 + 9) = 0.9 of the unit vector
        z = squash(paddle.to_tensor([[3.0, 0.0], [0.0, 0.0], [0.0, -1e3]])).numpy()
        np.testing.assert_allclose(z, [[0.9, 0], [0, 0], [0, -1]], atol=1e-5)


class TestDynamicK:
    def test_counts(self) -> None:
        lengths = np.arange(0, 1030)
        # the place of the highest bit is log2, rounded down
        expected = [max(1, min(9, int(n).bit_length() - 1)) for n in lengths]
        counts = layer_of(max_k=9, dynamic_k=True).interest_counts(
            paddle.to_tensor(lengths[:, None])
        )
        assert counts.numpy().ravel().tolist() == expected

    def test_the_first_are_routed_alone_and_the_others_repeat_the_first(self) -> None:
        layer = layer_of(dynamic_k=True, recency=True, context=True)
        learn_ages(layer)
        history = np.random.default_rng(0).normal(size=(L, L, D)).astype("float32")
        lengths = np.arange(1, L + 1)
        vectors, weights = run(layer, paddle.to_tensor(history), lengths)
        for user, (length, own) in enumerate(zip(lengths, [1, 1, 1, 2, 2, 2], strict=True)):
            expected, shares = np_user(layer, history[user, :length].astype("float64"), own)
            found = vectors.numpy()[user]
            np.testing.assert_allclose(found[:own], expected, rtol=3e-4, atol=1e-5)
            assert np.allclose(found[own:], found[0], atol=1e-6)
            np.testing.assert_allclose(weights.numpy()[user, :own, :length], shares, atol=1e-5)
            assert (weights.numpy()[user, own:] == weights.numpy()[user, 0]).all()

    @pytest.mark.parametrize("attention", ["max", "hard"])
    def test_repeated_interests_change_neither_lists_nor_training(self, attention: str) -> None:
        hyper = {"sampler": "all", "attention": attention}
        many = build(**hyper, **{"capsual.dynamic_k": True, "capsual.max_k": 4})
        one = build(**hyper, **{"capsual.max_k": 1})
        state = many.state_dict()
        logits = state["capsual_layer.routing_logits"][:, :1]
        one.set_state_dict({**state, "capsual_layer.routing_logits": logits})
        history, lengths = some_users()
        lengths = np.minimum(lengths, 3)  # all have one interest
        items = one.item_vectors().numpy()
        best = [(interests(model, history, lengths) @ items.T).max(axis=1) for model in (many, one)]
        np.testing.assert_allclose(best[0], best[1], atol=1e-5)
        for model in (many, one):
            model.train()
            batch = [paddle.to_tensor(x) for x in (history, lengths, np.full((5, 1), 3))]
            model(*batch).backward()
        names = [name for name, p in one.named_parameters() if p.trainable]
        named = dict(many.named_parameters())
        for name in (n for n in names if n != "item_emb.weight"):
            expected = dict(one.named_parameters())[name].grad.numpy()
            np.testing.assert_allclose(named[name].grad.numpy(), expected, rtol=1e-3, atol=1e-5)


class TestWhatMustNotMatter:
    @pytest.mark.parametrize("routing_init", ["item", "position"])
    @pytest.mark.parametrize("normalize", [True, False])
    @pytest.mark.parametrize("dynamic_k", [True, False])
    def test_ids_in_the_padding(self, routing_init: str, normalize: bool, dynamic_k: bool) -> None:
        capsual = {"capsual.routing_init": routing_init, "capsual.dynamic_k": dynamic_k}
        model = build(normalize=normalize, **capsual)
        learn_ages(model.capsual_layer)
        history, lengths = some_users()
        garbage = np.where(np.arange(L) < lengths, history, 17)
        assert (garbage != history).any()
        expected = interests(model, history, lengths)
        assert (interests(model, garbage, lengths) == expected).all()

    def test_more_padding(self) -> None:
        model = build()
        learn_ages(model.capsual_layer)
        history, lengths = some_users()
        longer = np.pad(history, ((0, 0), (0, 9)))
        np.testing.assert_allclose(
            interests(model, longer, lengths), interests(model, history, lengths), atol=1e-5
        )

    @pytest.mark.parametrize("recency", [True, False])
    @pytest.mark.parametrize("context", [True, False])
    def test_the_order_of_the_history(self, recency: bool, context: bool) -> None:
        hyper = {"capsual.recency": recency, "context": context}
        model = build(dropout=0.5, **hyper)  # no dropout in evaluation
        history, lengths = some_users()
        rng = np.random.default_rng(4)
        shuffled = history.copy()
        for row, (length,) in zip(shuffled, lengths, strict=True):
            row[:length] = rng.permutation(row[:length])
        assert (shuffled != history).any()
        np.testing.assert_allclose(
            interests(model, shuffled, lengths), interests(model, history, lengths), atol=1e-5
        )
        if recency:  # that holds until the weights of ages are learned
            learn_ages(model.capsual_layer)
            assert not np.allclose(
                interests(model, shuffled, lengths), interests(model, history, lengths), atol=1e-3
            )

    def test_the_other_users_of_the_batch(self) -> None:
        model = build()
        history, lengths = some_users()
        together = interests(model, history, lengths)
        alone = [interests(model, history[i : i + 1], lengths[i : i + 1]) for i in range(5)]
        np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)

    @pytest.mark.parametrize("normalize", [True, False])
    def test_an_empty_history_gives_zeros(self, normalize: bool) -> None:
        vectors = interests(
            build(normalize=normalize), np.zeros((1, L), "int64"), np.zeros((1, 1), "int64")
        )
        assert (vectors == 0).all()
