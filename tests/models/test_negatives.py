# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The samplers by their frequencies, and the sampled loss against the softmax over all items."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from small_mind import Array, D, K, build, module

negatives = module("negatives")
CLICKS = np.array([0, 40, 25, 15, 10, 8, 5, 3, 2, 1, 0, 6])  # of items 0 to 11; 10 has none
SAMPLERS = ["uniform", "log_uniform", "popularity"]


def sampler_of(distribution: str, item_count: int = 12, power: float = 0.75) -> Any:
    return negatives.NegativeSampler(item_count, distribution, power, lambda: CLICKS)


def true_shares(distribution: str, power: float = 0.75) -> Array:
    """What is drawn [11], of items 1 to 11, by its definition."""
    ids = np.arange(1, 12)
    weights = {
        "uniform": np.ones(11),
        "log_uniform": np.log((ids + 1) / ids),
        "popularity": np.maximum(CLICKS[1:], 1.0) ** power,
    }[distribution]
    return np.asarray(weights / weights.sum())


class TestSampler:
    @pytest.mark.parametrize("distribution", SAMPLERS)
    def test_frequencies(self, distribution: str) -> None:
        paddle.seed(6)
        n = 200_000
        ids = sampler_of(distribution).sample(n).numpy()
        assert ids.dtype == np.int64
        expected = true_shares(distribution) * n
        found = np.bincount(ids, minlength=12)
        assert found[0] == 0
        # chi-square of 10 degrees of freedom: above 29.6 once in a thousand
        assert ((found[1:] - expected) ** 2 / expected).sum() < 29.6

    @pytest.mark.parametrize("distribution", SAMPLERS)
    def test_log_counts(self, distribution: str) -> None:
        ids = paddle.arange(1, 12)
        drawn = true_shares(distribution) * 20
        found = np.exp(np.broadcast_to(sampler_of(distribution).log_counts(ids, 20), 11))
        np.testing.assert_allclose(found, drawn, rtol=1e-5)
        targets = true_shares("popularity", power=1.0) * 5
        found = np.exp(sampler_of(distribution).log_counts(ids, 20, batch=5).numpy())
        np.testing.assert_allclose(found, drawn + targets, rtol=1e-5)

    def test_all_is_every_item_once(self) -> None:
        sampler = sampler_of("all")
        assert sampler.sample(3).numpy().tolist() == list(range(1, 12))
        assert sampler.log_counts(sampler.sample(3), 3) == 0

    @pytest.mark.parametrize("distribution", ["uniform", "log_uniform"])
    @pytest.mark.parametrize("item_count", [2, 3, 1000])
    def test_never_padding_and_never_beyond(self, distribution: str, item_count: int) -> None:
        ids = sampler_of(distribution, item_count).sample(50_000).numpy()
        assert ids.min() >= 1
        assert ids.max() < item_count

    @pytest.mark.parametrize("distribution", SAMPLERS)
    def test_draws_follow_the_seed(self, distribution: str) -> None:
        draws = []
        for seed in (1, 1, 2):
            paddle.seed(seed)
            draws.append(sampler_of(distribution).sample(50).numpy().tolist())
        assert draws[0] == draws[1] != draws[2]


def log_sum(
    interests: Array, items: Array, counted: Array, log_counts: Any = 0.0, hardness: float = 0.0
) -> tuple[Array, Array, Array]:
    """``NegativeLogSum`` and its gradients, of the first row twice as asked for as the others."""
    given = [paddle.to_tensor(x.astype("float32"), stop_gradient=False) for x in (interests, items)]
    rest = negatives.NegativeLogSum.apply(
        *given, log_counts, paddle.to_tensor(counted.astype("float32")), hardness
    )
    weights = np.ones((len(interests), 1), dtype="float32")
    weights[0] = 2.0
    (rest * paddle.to_tensor(weights)).sum().backward()
    return rest.numpy(), given[0].grad.numpy(), given[1].grad.numpy()


class TestNegativeLogSum:
    @pytest.mark.parametrize("k", [1, 2, 5])
    @pytest.mark.parametrize("hardness", [0.0, 1.5])
    def test_equals_paddles_own(self, k: int, hardness: float) -> None:
        rng = np.random.default_rng(3)
        interests, items = rng.normal(size=(4, k, D)), rng.normal(size=(9, D))
        counted = rng.random((4, 9)) < 0.7
        log_counts = paddle.to_tensor(rng.normal(size=9).astype("float32"))
        found = log_sum(interests, items, counted, log_counts, hardness)
        given = [
            paddle.to_tensor(x.astype("float32"), stop_gradient=False) for x in (interests, items)
        ]
        best = paddle.matmul(given[0], given[1], transpose_y=True).max(axis=1)
        logits = best - log_counts
        if hardness:
            shares = paddle.nn.functional.softmax(best.detach() * hardness, axis=1)
            logits = logits + paddle.log(shares * 9)
        masked = logits + paddle.to_tensor(np.where(counted, 0.0, -1e9).astype("float32"))
        rest = paddle.logsumexp(masked, axis=1, keepdim=True)
        (rest.sum() + rest[0].sum()).backward()
        np.testing.assert_allclose(found[0], rest.numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found[1], given[0].grad.numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[2], given[1].grad.numpy(), rtol=1e-4, atol=1e-5)

    def test_of_equals_the_first_takes_the_gradient(self) -> None:
        interests = np.array([[[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]])
        _, found, _ = log_sum(interests, np.array([[2.0, 0.0]]), np.ones((1, 1)))
        assert found.tolist() == [[[0, 0], [4, 0], [0, 0]]]  # 2 x the item, by the row's weight

    def test_hard_negatives_by_hand(self) -> None:
        # scores ln 1, ln 3; hardness 1: weights 2 x 1/4 and 2 x 3/4, 2 in all
        # 0.5 x 1 + 1.5 x 3 = 5 where it is 1 + 3 = 4 without
        interests, items = np.ones((1, 1, 1)), np.log([[1.0], [3.0]])
        counted = np.ones((1, 2))
        assert log_sum(interests, items, counted)[0] == pytest.approx(np.log(4))
        assert log_sum(interests, items, counted, hardness=1.0)[0] == pytest.approx(np.log(5))

    def test_none_counted(self) -> None:
        rest, of_interests, of_items = log_sum(
            np.ones((2, 1, D)), np.ones((3, D)), np.zeros((2, 3))
        )
        assert (rest < -50).all()
        assert (of_interests == 0).all()
        assert (of_items == 0).all()


class TestSampledSoftmax:
    """Against the softmax over all items, on a catalogue of 11."""

    def parts(self, negatives_drawn: int, **hyper: Any) -> tuple[Any, Array, Array]:
        given = {"item_count": 12, "neg_samples": 5, "normalize": False, "temperature": 0.5}
        model = build(**{**given, "emb_init_std": 0.5, **hyper})
        model.softmax.neg_samples = negatives_drawn
        model.softmax.sampler.count_items = lambda: CLICKS
        rng = np.random.default_rng(7)
        return model, (rng.normal(size=(3, K, D)) * 0.4), np.array([1, 4, 11])

    def exact(self, model: Any, users: Array, labels: Array) -> tuple[Array, Array]:
        """Loss of each row [B] and the slope [B, K, D] of their mean, by numpy."""
        items = model.item_emb.weight.numpy()[1:].astype("float64")
        scores = users @ items.T  # [B, K, 11]
        best, nearest = scores.max(axis=1) / 0.5, scores.argmax(axis=1)
        shares = np.exp(best) / np.exp(best).sum(axis=1, keepdims=True)
        rows = np.arange(len(labels))
        losses = -np.log(shares[rows, labels - 1])
        shares[rows, labels - 1] -= 1
        slope = np.zeros(users.shape)
        for b, item in np.ndindex(best.shape):
            slope[b, nearest[b, item]] += shares[b, item] * items[item] / 0.5 / len(labels)
        return losses, slope

    def draw(self, model: Any, users: Array, labels: Array) -> tuple[float, Array]:
        """One draw's loss and its gradient by the interests [B, K, D]."""
        given = paddle.to_tensor(users.astype("float32"), stop_gradient=False)
        targets = paddle.to_tensor(labels)
        ids = model.softmax.draw(targets)
        loss = model.softmax(given, model.items(targets), targets, ids, model.items(ids))
        loss.backward()
        return float(loss), given.grad.numpy()

    def test_all_equals_the_exact_softmax(self) -> None:
        model, users, labels = self.parts(5, sampler="all")
        losses, slope = self.exact(model, users, labels)
        loss, gradient = self.draw(model, users, labels)
        assert loss == pytest.approx(losses.mean(), abs=1e-5)
        np.testing.assert_allclose(gradient, slope, atol=1e-5)

    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_the_gradient_tends_to_the_exact_one(self, sampler: str) -> None:
        model, users, labels = self.parts(400, sampler=sampler)
        _, slope = self.exact(model, users, labels)
        paddle.seed(8)
        mean = np.mean([self.draw(model, users, labels)[1] for _ in range(100)], axis=0)
        model.softmax.sampler.log_counts = lambda *_: 0.0
        uncorrected = np.mean([self.draw(model, users, labels)[1] for _ in range(100)], axis=0)
        bias, without = (np.abs(x - slope).mean() for x in (mean, uncorrected))
        assert bias < 0.03 * np.abs(slope).mean()
        assert without > 5 * bias

    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_with_the_targets_of_the_batch(self, sampler: str) -> None:
        # one user among many, whose targets are drawn as clicks are: by popularity
        model, users, _ = self.parts(20, sampler=sampler, batch_negatives=True)
        _, slope = self.exact(model, users[:1], np.array([4]))
        rng = np.random.default_rng(9)
        popularity = true_shares("popularity", power=1.0)
        many = np.broadcast_to(users[:1], (64, *users.shape[1:]))
        paddle.seed(8)

        def mean_gradient() -> Array:
            drawn = []
            for _ in range(400):
                labels = np.append(4, rng.choice(11, 63, p=popularity) + 1)
                drawn.append(self.draw(model, many, labels)[1][0] * 64)  # of a mean over 64
            return np.asarray(np.mean(drawn, axis=0))

        bias = np.abs(mean_gradient() - slope).mean()
        whole = model.softmax.sampler.log_counts
        # as if none were added
        model.softmax.sampler.log_counts = lambda ids, n, batch: whole(ids, n)
        without = np.abs(mean_gradient() - slope).mean()
        assert bias < 0.03 * np.abs(slope).mean()
        assert without > 5 * bias

    @pytest.mark.slow
    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_few_negatives_estimate_the_partition_without_bias(self, sampler: str) -> None:
        model, users, labels = self.parts(4, sampler=sampler)
        losses, _ = self.exact(model, users, labels)
        users, labels = users[1:2], labels[1:2]
        paddle.seed(8)
        found = np.array([self.draw(model, users, labels)[0] for _ in range(1500)])
        # exp(loss) is the sum over all items by exp(true logit)
        estimates = np.exp(found)
        error = estimates.std() / np.sqrt(len(found))
        assert abs(estimates.mean() - np.exp(losses[1])) < 4 * error
        assert estimates.std() > 0.01 * estimates.mean()  # it is a sample, not the whole

    @pytest.mark.parametrize("sampler", ["uniform", "log_uniform", "all"])
    def test_the_target_is_no_negative_of_its_own(self, sampler: str) -> None:
        # one item beside padding: every negative is the target, so nothing competes
        model = build(item_count=2, sampler=sampler, neg_samples=1)
        loss, gradient = self.draw(model, np.ones((2, K, D)), np.array([1, 1]))
        assert loss == pytest.approx(0, abs=1e-6)
        assert np.abs(gradient).max() < 1e-20
