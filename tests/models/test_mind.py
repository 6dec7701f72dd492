# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""MIND against numpy, against the exact softmax, and against what must not matter.

Letters as in net.py: B users, L history, K interests, D dimensions, N negatives, V items.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle
import pytest
from support import MIND, python

from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.training.checkpoint import load_parameters
from paddlerec_milvus.zoo import ModelFolder

Array = npt.NDArray[Any]
FOLDER = ModelFolder(MIND)
CONTRACT = FOLDER.dygraph_model()
V, D, K, L = 30, 8, 3, 6
UPSTREAM = {"capsual.routing_init": "position", "capsual.recency": False}

spec = importlib.util.spec_from_file_location("mind_net", MIND / "net.py")
assert spec is not None
assert spec.loader is not None
net = importlib.util.module_from_spec(spec)
spec.loader.exec_module(net)


def settings(**hyper: Any) -> dict[str, Any]:
    values = {
        "item_count": V,
        "embedding_dim": D,
        "hidden_size": D,
        "emb_init_std": 1.0,
        "maxlen": L,
        "capsual.max_k": K,
        "neg_samples": 7,
        **hyper,
    }
    return {f"hyper_parameters.{name}": value for name, value in values.items()}


def build(**hyper: Any) -> Any:
    paddle.seed(1)
    with FOLDER.active():
        return CONTRACT.create_model(settings(**hyper))


def some_users(users: int = 5, length: int = L, seed: int = 0) -> tuple[Array, Array]:
    """Histories [B, L], padded with 0 on the right, and their lengths [B, 1]."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, length + 1, (users, 1))
    lengths[0] = length
    history = rng.integers(1, V, (users, length))
    return np.where(np.arange(length) < lengths, history, 0), lengths


def interests(model: Any, history: Array, lengths: Array) -> Array:
    model.eval()
    vectors, _ = model(paddle.to_tensor(history), paddle.to_tensor(lengths))
    return np.asarray(vectors.numpy())


def np_squash(z: Array) -> Array:
    squared = (z**2).sum(-1, keepdims=True)
    return squared / (1 + squared) * z / np.sqrt(squared + 1e-9)


def np_route(
    history: Array, length: int, bilinear: Array, logits: Array, iters: int, recency: Array
) -> tuple[Array, Array]:
    """Routing of one user, over the clicks alone: [length, D] to interests [K, D], weights."""
    ages = np.arange(length)[::-1]  # the last click has age 0
    mapped = [click @ bilinear for click in history[:length]]
    b = logits[:, :length].copy()
    for iteration in range(iters):
        weights = np.exp(b) / np.exp(b).sum(axis=0)  # over interests, for each click
        weights = weights * np.exp(recency[ages])
        interest = np.stack(
            [np_squash(sum(w * e for w, e in zip(row, mapped, strict=True))) for row in weights]
        )
        if iteration < iters - 1:
            for k in range(len(b)):
                for j in range(length):
                    b[k, j] += interest[k] @ mapped[j]
    return interest, weights


class TestRouting:
    @pytest.mark.parametrize("iters", [1, 2, 3])
    @pytest.mark.parametrize("routing_init", ["item", "position"])
    @pytest.mark.parametrize("map_init", ["identity", "normal"])
    @pytest.mark.parametrize("recency", [True, False])
    def test_equals_a_loop_over_clicks(
        self, iters: int, routing_init: str, map_init: str, recency: bool
    ) -> None:
        paddle.seed(2)
        layer = net.InterestCapsules(
            D, K, L, iters, 1.0, routing_init, map_init, recency, relu_layer=False
        )
        by_age = np.zeros(L)
        if recency:
            assert (layer.recency.numpy() == 0).all()  # all ages weigh the same at the start
            by_age = np.linspace(0.5, -2.0, L)
            layer.recency.set_value(by_age.astype("float32"))
        bilinear = layer.bilinear_mapping_matrix.numpy().astype("float64")
        if map_init == "identity":
            assert (bilinear == np.eye(D)).all()
        table = layer.routing_logits.numpy()[0].astype("float64")
        history = np.random.default_rng(0).normal(size=(4, L, D)).astype("float32")
        lengths = np.array([L, 3, 1, 4])
        vectors, weights = layer(paddle.to_tensor(history), paddle.to_tensor(lengths[:, None]))
        for user, length in enumerate(lengths):
            clicks = history[user].astype("float64")
            start = table
            if routing_init == "item":
                mapped = clicks @ bilinear
                start = table @ (mapped / np.linalg.norm(mapped, axis=1, keepdims=True)).T
            expected, shares = np_route(clicks, length, bilinear, start, iters, by_age)
            np.testing.assert_allclose(vectors.numpy()[user], expected, rtol=2e-4, atol=1e-5)
            np.testing.assert_allclose(
                weights.numpy()[user, :, :length], shares, rtol=2e-4, atol=1e-5
            )
            assert (weights.numpy()[user, :, length:] == 0).all()

    def test_the_gradient_flows_through_the_last_iteration_alone(self) -> None:
        paddle.seed(2)
        layer = net.InterestCapsules(D, K, L, 3, 1.0, "item", "normal", False, relu_layer=False)
        rng = np.random.default_rng(0)
        values = rng.normal(size=(1, L, D)).astype("float32")
        direction = rng.normal(size=(K, D))
        history = paddle.to_tensor(values, stop_gradient=False)
        vectors, weights = layer(history, paddle.full([1, 1], L, dtype="int64"))
        (vectors[0] * paddle.to_tensor(direction.astype("float32"))).sum().backward()
        # the same sum with the weights held, and its slope at each place
        bilinear = layer.bilinear_mapping_matrix.numpy().astype("float64")
        held = weights.numpy()[0].astype("float64")

        def value(clicks: Array) -> float:
            return float((np_squash(held @ (clicks @ bilinear)) * direction).sum())

        slope = np.zeros((L, D))
        for place in np.ndindex(L, D):
            step = np.zeros((L, D))
            step[place] = 1e-5
            slope[place] = (value(values[0] + step) - value(values[0] - step)) / 2e-5
        np.testing.assert_allclose(history.grad.numpy()[0], slope, rtol=1e-3, atol=1e-5)
        assert layer.routing_logits.stop_gradient

    def test_squash_keeps_direction_and_bounds_length(self) -> None:
        # |z| = 3: 9 / (1 + 9) = 0.9 of the unit vector
        z = net.squash(paddle.to_tensor([[3.0, 0.0], [0.0, 0.0], [0.0, -1e3]])).numpy()
        np.testing.assert_allclose(z, [[0.9, 0], [0, 0], [0, -1]], atol=1e-5)

    def test_the_relu_layer(self) -> None:
        model = build(relu_layer=True, normalize=False)
        layer = model.capsual_layer
        plain = build(relu_layer=False, normalize=False)
        plain.set_state_dict(
            {k: v for k, v in model.state_dict().items() if not k.count("relu_layer")}
        )
        history, lengths = some_users()
        weight, bias = layer.relu_layer.weight.numpy(), layer.relu_layer.bias.numpy()
        expected = np.maximum(interests(plain, history, lengths) @ weight + bias, 0)
        np.testing.assert_allclose(interests(model, history, lengths), expected, atol=1e-5)


class TestWhatMustNotMatter:
    @pytest.mark.parametrize("routing_init", ["item", "position"])
    @pytest.mark.parametrize("normalize", [True, False])
    def test_ids_in_the_padding(self, routing_init: str, normalize: bool) -> None:
        model = build(**{"capsual.routing_init": routing_init, "normalize": normalize})
        history, lengths = some_users()
        garbage = np.where(np.arange(L) < lengths, history, 17)
        assert (garbage != history).any()
        expected = interests(model, history, lengths)
        assert (interests(model, garbage, lengths) == expected).all()

    def test_more_padding(self) -> None:
        model = build()
        history, lengths = some_users()
        longer = np.pad(history, ((0, 0), (0, 9)))
        np.testing.assert_allclose(
            interests(model, longer, lengths), interests(model, history, lengths), atol=1e-5
        )

    @pytest.mark.parametrize("recency", [True, False])
    def test_the_order_of_the_history(self, recency: bool) -> None:
        model = build(dropout=0.5, **{"capsual.recency": recency})  # no dropout in evaluation
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
            model.capsual_layer.recency.set_value(np.linspace(0, -2, L).astype("float32"))
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


class TestNormalized:
    def test_inner_product_is_cosine(self) -> None:
        model = build()
        vectors = interests(model, *some_users())
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-4)
        items = CONTRACT.item_vectors(model).numpy()  # type: ignore[attr-defined]
        np.testing.assert_allclose(np.linalg.norm(items[1:], axis=-1), 1, atol=1e-4)
        assert (items[0] == 0).all()

    def test_off_leaves_the_table_as_it_is(self) -> None:
        model = build(normalize=False)
        items = CONTRACT.item_vectors(model).numpy()  # type: ignore[attr-defined]
        assert (items == model.item_emb.weight.numpy()).all()


class TestLabelAwareAttention:
    def attend(self, attention: str, pow_p: float, user: Array, target: Array) -> Array:
        model = build(attention=attention, pow_p=pow_p, normalize=False)
        vectors = [paddle.to_tensor(x[None].astype("float32")) for x in (user, target)]
        return np.asarray(model.label_aware_attention(*vectors).numpy()[0])

    def test_soft_by_hand(self) -> None:
        # scores 2, -1; p = 2 keeps the sign: 4, -1; softmax: 1 / (1 + e^-5) = 0.993307
        user = np.array([[2.0, 0.0], [-1.0, 1.0]])
        found = self.attend("soft", 2.0, user, np.array([1.0, 0.0]))
        share = 0.9933071
        np.testing.assert_allclose(found, share * user[0] + (1 - share) * user[1], atol=1e-5)

    def test_hard_is_the_limit_of_soft_for_scores_above_one(self) -> None:
        rng = np.random.default_rng(5)
        target = rng.normal(size=D)
        user = rng.normal(size=(K, D))
        user[1] += 2 * target  # so the best score is well above 1
        hard = self.attend("hard", 1.0, user, target)
        assert (hard == user[1].astype("float32")).all()
        errors = [
            np.abs(self.attend("soft", p, user, target) - hard).max() for p in (0.1, 0.5, 4.0)
        ]
        assert errors == sorted(errors, reverse=True)
        assert errors[0] > 0.1
        assert errors[-1] < 1e-5

    def test_hard_takes_the_best_by_sign(self) -> None:
        user = np.array([[-5.0, 0.0], [0.1, 0.0]])
        assert (self.attend("hard", 1.0, user, np.array([1.0, 0.0])) == np.float32(user[1])).all()


class TestNegatives:
    @pytest.mark.parametrize("distribution", ["uniform", "log_uniform"])
    def test_frequencies_are_what_log_count_says(self, distribution: str) -> None:
        paddle.seed(6)
        n = 200_000
        ids, log_count = net.NegativeSampler(12, distribution).sample(n)
        ids, expected = ids.numpy(), np.exp(log_count.numpy().astype("float64"))
        assert ids.dtype == np.int64
        assert set(ids) == set(range(1, 12))
        for item in range(1, 12):
            share = expected[ids == item][0] / n
            deviation = np.sqrt(share * (1 - share) / n)
            assert abs((ids == item).mean() - share) < 4.5 * deviation
        shares = [expected[ids == item][0] / n for item in range(1, 12)]
        assert sum(shares) == pytest.approx(1, abs=1e-5)

    @pytest.mark.parametrize("distribution", ["uniform", "log_uniform"])
    @pytest.mark.parametrize("item_count", [2, 3, 1000])
    def test_never_padding_and_never_beyond(self, distribution: str, item_count: int) -> None:
        ids = net.NegativeSampler(item_count, distribution).sample(50_000)[0].numpy()
        assert ids.min() >= 1
        assert ids.max() < item_count

    def test_draws_follow_the_seed(self) -> None:
        sampler = net.NegativeSampler(1000, "log_uniform")
        draws = []
        for seed in (1, 1, 2):
            paddle.seed(seed)
            draws.append(sampler.sample(50)[0].numpy().tolist())
        assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("sampler", ["uniform", "log_uniform"])
class TestSampledSoftmax:
    """Against the softmax over all items, on a catalogue of 11."""

    def parts(self, sampler: str, negatives: int) -> tuple[Any, Array, Array, Array]:
        model = build(
            item_count=12, sampler=sampler, neg_samples=negatives, normalize=False, temperature=0.5
        )
        rng = np.random.default_rng(7)
        user = (rng.normal(size=(3, D)) * 0.4).astype("float32")
        labels = np.array([1, 4, 11])
        logits = user / 0.5 @ model.item_emb.weight.numpy()[1:].T  # [B, 11], of ids 1 to 11
        return model, user, labels, logits.astype("float64")

    def test_loss_and_gradient_tend_to_the_exact_ones(self, sampler: str) -> None:
        model, user, labels, logits = self.parts(sampler, 400_000)
        tensor = paddle.to_tensor(user, stop_gradient=False)
        ids = paddle.to_tensor(labels)
        loss = model.sampled_softmax(tensor, model.item_emb(ids).detach(), ids)
        loss.backward()
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        exact = -np.log(shares[range(3), labels - 1]).mean()
        assert float(loss) == pytest.approx(exact, abs=0.01)
        items = model.item_emb.weight.numpy()[1:]
        slope = (shares @ items - items[labels - 1]) / 0.5 / 3
        np.testing.assert_allclose(tensor.grad.numpy(), slope, atol=0.01)

    def test_few_negatives_estimate_the_partition_without_bias(self, sampler: str) -> None:
        model, user, labels, logits = self.parts(sampler, 4)
        b = 1
        ids = paddle.to_tensor(labels[b : b + 1])
        target, one = model.item_emb(ids), paddle.to_tensor(user[b : b + 1])
        paddle.seed(8)
        with paddle.no_grad():
            losses = [float(model.sampled_softmax(one, target, ids)) for _ in range(3000)]
        # loss = log(estimate of the sum over all items) - true logit
        estimates = np.exp(np.array(losses) + logits[b, labels[b] - 1])
        exact = np.exp(logits[b]).sum()
        assert abs(estimates.mean() - exact) < 4 * estimates.std() / np.sqrt(len(losses))
        assert estimates.std() > 0.01 * exact  # it is a sample, not the whole

    def test_the_target_is_no_negative_of_its_own(self, sampler: str) -> None:
        # one item beside padding: every negative is the target, so nothing competes
        model = build(item_count=2, sampler=sampler)
        ids = paddle.to_tensor([1, 1])
        loss = model.sampled_softmax(paddle.ones([2, D]), model.item_emb(ids), ids)
        assert float(loss) == pytest.approx(0, abs=1e-6)


def one_step(optimizer: str = "Adam", **hyper: Any) -> tuple[Any, Array, Array, Any]:
    """A training step: the model, the item table before it and after it, and its gradient."""
    model = build(**hyper)
    config = settings(**{"optimizer.class": optimizer, "optimizer.learning_rate": 0.1, **hyper})
    chosen = CONTRACT.create_optimizer(model, config)
    assert type(chosen).__name__ == optimizer
    before = model.item_emb.weight.numpy().copy()
    history, lengths = some_users()
    model.train()
    batch = [history, np.full((5, 1), 3), lengths]
    loss, _, printed = CONTRACT.train_forward(model, [], batch, config)
    assert float(printed["loss"]) == float(loss)  # type: ignore[index]
    loss.backward()
    gradient = model.item_emb.weight.grad
    chosen.step()
    return model, before, model.item_emb.weight.numpy(), gradient


class TestTrainingStep:
    @pytest.mark.parametrize("attention", ["hard", "soft"])
    @pytest.mark.parametrize("normalize", [True, False])
    def test_the_item_table_has_a_sparse_gradient(self, attention: str, normalize: bool) -> None:
        _, _, _, gradient = one_step(attention=attention, normalize=normalize)
        assert gradient.is_selected_rows()

    @pytest.mark.parametrize("optimizer", ["Adam", "SGD", "Adagrad", "Momentum", "RMSProp"])
    def test_the_optimizer_of_the_yaml_moves_the_items(self, optimizer: str) -> None:
        _, before, after, _ = one_step(optimizer)
        assert np.isfinite(after).all()
        moved = (after != before).any(axis=1)
        used = set(some_users()[0].ravel()) - {0} | {3}
        assert moved[sorted(used)].all()
        assert not moved[0]  # padding

    def test_adam_touches_looked_up_rows_alone(self) -> None:
        _, before, after, _ = one_step("Adam", item_count=500)
        looked_up = len(set(some_users()[0].ravel()) - {0} | {3}) + 7  # 7 negatives
        assert 0 < (after != before).any(axis=1).sum() <= looked_up

    def test_everything_trainable_gets_a_gradient(self) -> None:
        model, _, _, _ = one_step(relu_layer=True, normalize=False)
        assert [n for n, p in model.named_parameters() if p.trainable and p.grad is None] == []
        assert not model.capsual_layer.routing_logits.trainable

    def test_dropout_changes_training_alone(self) -> None:
        model = build(dropout=0.5)
        users = some_users()
        assert (interests(model, *users) == interests(model, *users)).all()
        model.train()
        history, lengths = (paddle.to_tensor(x) for x in users)
        assert (
            model.interests(history, lengths)[0].numpy()
            != model.interests(history, lengths)[0].numpy()
        ).any()

    def test_infer_forward_is_the_user_tower(self) -> None:
        model = build(dropout=0.5)
        model.train()
        history, lengths = some_users()
        batch = [history, lengths, np.zeros((5, 1, 2), "int64")]
        vectors, weights = CONTRACT.infer_forward(model, None, batch, settings())
        assert vectors.shape == [5, K, D]
        assert weights.shape == [5, K, L]
        assert (vectors.numpy() == interests(model, history, lengths)).all()

    def test_no_metrics(self) -> None:
        assert CONTRACT.create_metrics() == ([], [])


class TestStateDict:
    upstream = {  # noqa: RUF012
        "item_emb.weight": [V, D],
        "embedding_bias": [V],
        "capsual_layer.routing_logits": [1, K, L],
        "capsual_layer.bilinear_mapping_matrix": [D, D],
        "capsual_layer.relu_layer.weight": [D, D],
        "capsual_layer.relu_layer.bias": [D],
    }

    def checkpoint(self, folder: Path, **changed: Any) -> Path:
        rng = np.random.default_rng(9)
        state = {
            name: paddle.to_tensor(rng.normal(size=shape).astype("float32"))
            for name, shape in self.upstream.items()
        }
        state["embedding_bias"] = paddle.zeros([V])
        folder.mkdir(parents=True)
        paddle.save({**state, **changed}, str(folder / "rec.pdparams"))
        return folder

    def load(self, folder: Path, model: Any) -> None:
        load_parameters(folder, model, CONTRACT.adapt_state_dict)  # type: ignore[attr-defined]

    def test_names_and_shapes_are_paddlerecs(self) -> None:
        model = build(relu_layer=True, **UPSTREAM)
        given = {name: list(value.shape) for name, value in model.state_dict().items()}
        assert given == {n: s for n, s in self.upstream.items() if n != "embedding_bias"}

    def test_paddlerecs_checkpoint_loads(self, tmp_path: Path) -> None:
        folder = self.checkpoint(tmp_path / "0")
        model = build(relu_layer=True, normalize=False, **UPSTREAM)
        self.load(folder, model)
        stored = paddle.load(str(folder / "rec.pdparams"))
        for name, value in model.state_dict().items():
            assert (value.numpy() == stored[name].numpy()).all()

    def test_with_the_default_settings_it_is_refused_with_a_list(self, tmp_path: Path) -> None:
        model = build()
        with pytest.raises(CheckpointError) as raised:
            self.load(self.checkpoint(tmp_path / "0"), model)
        for line in (
            f"capsual_layer.routing_logits: [1, {K}, {L}] in the file, [1, {K}, {D}] here",
            "capsual_layer.relu_layer.weight: [8, 8] in the file, absent here",
            "capsual_layer.relu_layer.bias: [8] in the file, absent here",
        ):
            assert line in str(raised.value)
        assert "embedding_bias" not in str(raised.value)

    def test_a_bias_that_was_trained_is_not_dropped(self, tmp_path: Path) -> None:
        model = build(relu_layer=True, **UPSTREAM)
        folder = self.checkpoint(tmp_path / "0", embedding_bias=paddle.ones([V]))
        with pytest.raises(CheckpointError, match=r"embedding_bias: \[30\] in the file, absent"):
            self.load(folder, model)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("item_count", 1, "largest item id + 1, at least 2"),
        ("item_count", "30", "expected int"),
        ("embedding_dim", 0, "at least 1"),
        ("hidden_size", 16, "equals embedding_dim: 8"),
        ("emb_init_std", 0.0, "above 0"),
        ("maxlen", 0, "at least 1"),
        ("maxlen", 2.5, "expected int"),
        ("neg_samples", 0, "at least 1"),
        ("neg_samples", True, "expected int"),
        ("pow_p", -1.0, "above 0"),
        ("temperature", 0.0, "above 0"),
        ("temperature", float("nan"), "above 0"),
        ("temperature", float("inf"), "above 0"),
        ("temperature", "0.1", "expected float"),
        ("dropout", 1.0, "from 0 to below 1"),
        ("dropout", -0.1, "from 0 to below 1"),
        ("normalize", 1, "expected bool"),
        ("relu_layer", "False", "expected bool"),
        ("attention", "softest", "one of hard, soft"),
        ("sampler", "zipf", "one of uniform, log_uniform"),
        ("capsual.iters", 0, "at least 1"),
        ("capsual.max_k", 0, "at least 1"),
        ("capsual.init_std", -1, "above 0"),
        ("capsual.routing_init", "random", "one of item, position"),
        ("capsual.map_init", "eye", "one of identity, normal"),
        ("optimizer.class", "adam", "one of Adam, SGD"),
        ("optimizer.class", "AdamW", "one of Adam, SGD"),  # has no kernel for sparse gradients
        ("optimizer.learning_rate", 0, "above 0"),
        ("optimizer.learning_rate", "1e-3", "expected float"),
    ],
)
def test_a_bad_hyper_parameter_is_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match="hyper_parameters") as raised:
        build(**{name: value})
    assert f"hyper_parameters.{name}: " in str(raised.value)
    assert message in str(raised.value)


def test_bad_hyper_parameters_are_named_together() -> None:
    with pytest.raises(ValueError, match=r"hyper_parameters\.maxlen: 0.*hyper_parameters\.dropout"):
        build(maxlen=0, dropout=2.0)


def read_log(*texts: str, folder: Path, reader: str = "mind_reader", **config: Any) -> Any:
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"part-{number}").write_bytes(text.encode())
    values = {"hyper_parameters.maxlen": 3, "hyper_parameters.item_count": 100}
    values |= {"runner.train_batch_size": 4} | config
    return FOLDER.reader(reader, sorted(folder.iterdir()), values)


def epoch_of(dataset: Any, batch_size: int = 4) -> list[tuple[list[int], int, int]]:
    """(history, target, length) of each sample of one epoch, in order."""
    samples = []
    for history, target, length in dataset.iter_batches(batch_size):
        assert history.dtype == target.dtype == length.dtype == np.int64
        assert history.shape[1:] == (3,)
        assert target.shape == length.shape == (len(history), 1)
        samples += [
            (list(h), int(t), int(n))
            for h, (t,), (n,) in zip(history.tolist(), target, length, strict=True)
        ]
    return samples


# user 7's lines are out of time order and in two files; items of equal time keep the file's order
LOG = ["7,5,30\n7,6,10\n8,1,1\n9,20,1\n9,21,2\n9,22,3\n9,23,3\n9,24,5\n", "7,7,20\n8,2,2\n"]
CLICKS = {7: [6, 7, 5], 8: [1, 2], 9: [20, 21, 22, 23, 24]}


def brute_force(clicks: dict[int, list[int]], maxlen: int, first: int = 1) -> list[Any]:
    samples = []
    for items in clicks.values():
        for position in range(first, len(items)):
            past = items[:position][-maxlen:]
            samples.append((past + [0] * (maxlen - len(past)), items[position], len(past)))
    return samples


class TestTrainReader:
    @pytest.mark.parametrize("batch_size", [1, 3, 100])
    @pytest.mark.parametrize("min_history", [1, 2, 4])
    def test_every_position_exactly_once(
        self, tmp_path: Path, batch_size: int, min_history: int
    ) -> None:
        config = {"hyper_parameters.min_history": min_history}
        dataset = read_log(*LOG, folder=tmp_path / "log", **config)
        expected = sorted(brute_force(CLICKS, 3, min_history))
        for _ in range(2):
            assert sorted(epoch_of(dataset, batch_size)) == expected

    def test_a_large_log_by_brute_force(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        clicks = {u: rng.integers(1, 100, rng.integers(1, 9)).tolist() for u in range(60)}
        lines = [f"{u},{i},{t}\n" for u, items in clicks.items() for t, i in enumerate(items)]
        rng.shuffle(lines)
        dataset = read_log("".join(lines), folder=tmp_path / "log")
        assert sorted(epoch_of(dataset)) == sorted(brute_force(clicks, 3))

    def test_order(self, tmp_path: Path) -> None:
        first, same = (read_log(*LOG, folder=tmp_path / "log") for _ in range(2))
        epochs = [epoch_of(first) for _ in range(3)]
        assert epochs[0] != epochs[1] != epochs[2]
        assert [epoch_of(same) for _ in range(3)] == epochs
        same.set_epoch(1)
        assert epoch_of(same) == epochs[1]
        other = read_log(*LOG, folder=tmp_path / "log", **{"runner.seed": 2})
        assert epoch_of(other) != epochs[0]

    def test_batches_per_epoch_caps(self, tmp_path: Path) -> None:
        whole = epoch_of(read_log(*LOG, folder=tmp_path / "log"), 2)
        capped = read_log(*LOG, folder=tmp_path / "log", **{"runner.batches_per_epoch": 3})
        assert epoch_of(capped, 2) == whole[:6]

    @pytest.mark.parametrize("batches", [2, 4, 5, 8])  # 7 samples: 8 to 32 wanted
    def test_batches_per_epoch_wraps(self, tmp_path: Path, batches: int) -> None:
        config = {"runner.batches_per_epoch": batches}
        drawn = epoch_of(read_log(*LOG, folder=tmp_path / "log", **config), 4)
        assert len(drawn) == 4 * batches
        times = [sum(x == sample for x in drawn) for sample in brute_force(CLICKS, 3)]
        assert max(times) - min(times) <= 1  # each comes again only after all came

    def test_single_samples_are_the_same_stream(self, tmp_path: Path) -> None:
        dataset, single = (read_log(*LOG, folder=tmp_path / "log") for _ in range(2))
        samples = [tuple(x.tolist() for x in sample) for sample in single]
        assert [(h, t[0], n[0]) for h, t, n in samples] == epoch_of(dataset)
        assert [(h, t, n) for h, (t,), (n,) in samples] != [  # and it moves on, too
            (h.tolist(), int(t[0]), int(n[0])) for h, t, n in single
        ]

    @pytest.mark.parametrize("workers", [1, 2])
    def test_workers_share_the_samples(self, tmp_path: Path, workers: int) -> None:
        dataset = read_log(*LOG, folder=tmp_path / "log")
        loader = paddle.io.DataLoader(dataset, batch_size=4, num_workers=workers)
        drawn = [
            (h, t[0], n[0])
            for batch in loader
            for h, t, n in zip(*(x.numpy().tolist() for x in batch), strict=True)
        ]
        assert sorted(drawn) == sorted(brute_force(CLICKS, 3))

    def test_bom_crlf_and_blank_lines(self, tmp_path: Path) -> None:
        plain = read_log(*LOG, folder=tmp_path / "plain")
        windows = ["\ufeff" + text.replace("\n", "\r\n") + "\r\n" for text in LOG]
        assert epoch_of(read_log(*windows, folder=tmp_path / "windows")) == epoch_of(plain)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("1,100,1\n1,2,2\n", "item_count: 100 allows item ids 1 to 99.*hold 2 to 100"),
            ("1,0,1\n1,2,2\n", "hold 0 to 2"),
            ("1,-4,1\n1,2,2\n", "hold -4 to 2"),
            ("1,2\n1,3\n", "part-0: expected lines uid,item,time, found 2 fields"),
            ("uid,item,time\n1,2,3\n", "part-0: expected lines uid,item,time"),
            ("1,2,3\n1,x,4\n", "part-0: expected lines uid,item,time: .*'x'.*row 1"),
            ("", "part-0: expected lines uid,item,time"),
            ("1,2,3\n2,2,3\n", "no user has more than 1 click"),
        ],
    )
    def test_bad_logs(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(Exception, match=message) as raised:
            read_log(text, folder=tmp_path / "log")
        assert type(raised.value).__name__ == "ModelError"

    @pytest.mark.parametrize("value", [0, -1, "2", 1.0])
    def test_bad_min_history(self, tmp_path: Path, value: Any) -> None:
        config = {"hyper_parameters.min_history": value}
        with pytest.raises(Exception, match=r"hyper_parameters\.min_history: .*at least 1"):
            read_log(*LOG, folder=tmp_path / "log", **config)


class TestInferReader:
    text = (
        "user_id:1 target_item:0 hist_item:1 hist_item:2 hist_item:3 hist_item:4 eval_item:5\n"
        "user_id:2 target_item:0 hist_item:9 eval_item:8 eval_item:7 eval_item:6 eval_item:5 "
        "eval_item:4\n"
        "user_id:3 target_item:0 hist_item:9\n"
    )

    @pytest.mark.parametrize("ending", ["\n", "\r\n"])
    def test_the_last_clicks_and_all_truths(self, tmp_path: Path, ending: str) -> None:
        text = "\ufeff" + self.text.replace("\n", ending)
        dataset = read_log(text, folder=tmp_path / "test", reader="mind_infer_reader")
        samples = [[x.tolist() for x in sample] for sample in dataset]
        assert samples == [
            [[2, 3, 4], [3], [[5, 0, 0, 0, 0]]],
            [[9, 0, 0], [1], [[8, 7, 6, 5, 4]]],  # more truths than maxlen: none is cut
        ]
        assert all(x.dtype == np.int64 for sample in dataset for x in sample)

    def test_a_bad_line_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(Exception, match=r"part-0:4: expected 'user_id:7 .*found 'user_id:1 x'"):
            read_log(self.text + "user_id:1 x\n", folder=tmp_path / "t", reader="mind_infer_reader")


def test_the_folder_needs_paddle_and_numpy_alone(tmp_path: Path) -> None:
    script = f"""
import sys


class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("paddlerec_milvus", "polars", "pymilvus", "pydantic", "tqdm"):
            raise ImportError("not for a model folder: " + name)


import paddle

sys.meta_path.insert(0, Refuse())
before = set(sys.modules)
sys.path.insert(0, {str(MIND)!r})
import dygraph_model, mind_infer_reader, mind_reader, net

own = {{n.split(".")[0] for n in set(sys.modules) - before}} - set(sys.stdlib_module_names)
print(sorted(own))
"""
    done = python("-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    own = ["dygraph_model", "mind_infer_reader", "mind_reader", "net"]
    assert done.stdout.splitlines()[-1] == str(own)
    assert "mind_reader" not in sys.modules
