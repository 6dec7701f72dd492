# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The whole network: attention, loss, a step of training, and PaddleRec's checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from small_mind import CONTRACT, Array, D, K, L, V, build, interests, module, settings, some_users
from support import MIND, python

from paddlerec_milvus.checkpoint import load_parameters
from paddlerec_milvus.errors import CheckpointError

# the settings that describe PaddleRec's network, with relu_layer
UPSTREAM = {"capsual.routing_init": "position", "capsual.recency": False, "context": False}
LABELS = np.array([[3], [8], [3], [29], [1]])


def loss_of(model: Any, history: Array, lengths: Array, labels: Array = LABELS) -> Any:
    model.train()
    return model(*(paddle.to_tensor(x) for x in (history, lengths, labels)))


class TestVectors:
    def test_inner_product_is_cosine(self) -> None:
        model = build()
        vectors = interests(model, *some_users())
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-4)
        items = CONTRACT.item_vectors(model).numpy()
        np.testing.assert_allclose(np.linalg.norm(items[1:], axis=-1), 1, atol=1e-4)
        assert (items[0] == 0).all()

    def test_off_leaves_the_table_as_it_is_and_squashes(self) -> None:
        model, unit = build(normalize=False), build()
        assert (CONTRACT.item_vectors(model).numpy() == model.item_emb.weight.numpy()).all()
        # the same directions for the same embeddings
        rows = model.item_emb.weight.numpy()
        rows[1:] /= np.linalg.norm(rows[1:], axis=1, keepdims=True)
        model.item_emb.weight.set_value(rows)
        short, whole = interests(model, *some_users()), interests(unit, *some_users())
        lengths = np.linalg.norm(short, axis=-1, keepdims=True)
        assert (lengths < 1).all()
        np.testing.assert_allclose(short / lengths, whole, atol=1e-4)

    def test_the_relu_layer(self) -> None:
        model = build(relu_layer=True, normalize=False)
        plain = build(relu_layer=False, normalize=False)
        state = model.state_dict()
        plain.set_state_dict({name: state[name] for name in state if "relu_layer" not in name})
        layer, users = model.capsual_layer.relu_layer, some_users()
        mapped = interests(plain, *users) @ layer.weight.numpy() + layer.bias.numpy()
        np.testing.assert_allclose(interests(model, *users), np.maximum(mapped, 0), atol=1e-5)

    def test_one_lookup_is_the_same_as_many(self) -> None:
        model = build()
        history, _ = some_users()
        parts = [paddle.to_tensor(x) for x in (history, LABELS.ravel(), np.array([3, 3, 0, 29]))]
        for part, found in zip(parts, model.lookup(*parts), strict=True):
            np.testing.assert_allclose(found.numpy(), model.items(part).numpy(), atol=1e-6)

    def test_distinct(self) -> None:
        ids = np.random.default_rng(0).integers(0, 50, 200)
        rows, places = module("item_table").distinct(ids)
        assert rows.tolist() == sorted(set(ids.tolist()))
        assert (rows[places] == ids).all()


class TestAttention:
    """The loss by brute force over users, interests and items; all items are negatives."""

    @pytest.mark.parametrize(
        ("attention", "pow_p"), [("max", 1.0), ("hard", 1.0), ("soft", 1.0), ("soft", 2.0)]
    )
    @pytest.mark.parametrize("normalize", [True, False])
    def test_loss(self, attention: str, pow_p: float, normalize: bool) -> None:
        hyper = {"attention": attention, "pow_p": pow_p, "normalize": normalize}
        model = build(sampler="all", temperature=0.5, emb_init_std=0.7, **hyper)
        users = some_users()
        items = CONTRACT.item_vectors(model).numpy().astype("float64")
        losses = []
        for vectors, (label,) in zip(interests(model, *users), LABELS, strict=True):
            own = vectors @ items[label]
            if attention == "hard":
                vectors = vectors[[own.argmax()]]
            elif attention == "soft":
                powers = np.exp(np.sign(own) * np.abs(own) ** pow_p)
                vectors = (powers / powers.sum() @ vectors)[None]
            scores = [max(vector @ item for vector in vectors) / 0.5 for item in items[1:]]
            losses.append(np.log(np.exp(scores).sum()) - scores[label - 1])
        assert float(loss_of(model, *users)) == pytest.approx(np.mean(losses), rel=1e-5)

    def test_hard_negatives_weigh_by_their_cosine(self) -> None:
        model, users = build(sampler="all", temperature=0.5, hard_negatives=2.0), some_users()
        items = CONTRACT.item_vectors(model).numpy()[1:].astype("float64")
        losses = []
        for vectors, (label,) in zip(interests(model, *users), LABELS, strict=True):
            cosines = (vectors @ items.T).max(axis=0)
            weights = np.exp(2.0 * cosines) / np.exp(2.0 * cosines).sum() * len(items)
            negatives = (weights * np.exp(cosines / 0.5))[np.arange(1, V) != label].sum()
            losses.append(np.log1p(negatives / np.exp(cosines[label - 1] / 0.5)))
        assert float(loss_of(model, *users)) == pytest.approx(np.mean(losses), rel=1e-5)

    def test_hard_takes_the_best_by_sign(self) -> None:
        model = build(attention="hard", normalize=False, context=False)
        history, lengths = some_users(users=1)
        vectors = interests(model, history, lengths)
        embedded = model.items(paddle.to_tensor(history))
        weights = model.capsual_layer.route(embedded, paddle.to_tensor(lengths))
        opposite = paddle.to_tensor(-5 * vectors[:, 0] + 0.1 * vectors[:, 1])
        found = model.suited(embedded, weights, None, opposite, None).numpy()
        best = (vectors[0] @ opposite.numpy()[0]).argmax()
        assert found.shape == (1, 1, D)
        np.testing.assert_allclose(found[0, 0], vectors[0, best], atol=1e-6)


class TestRoutingPenalty:
    @pytest.mark.parametrize("recency", [True, False])
    def test_by_numpy(self, recency: bool) -> None:
        hyper = {"sampler": "all", "capsual.recency": recency}
        history, lengths = some_users()
        model = build(routing_penalty=2.0, **hyper)
        _, weights = model.interests(paddle.to_tensor(history), paddle.to_tensor(lengths))
        expected = 2.0 * (weights.numpy().var(axis=2) ** 2).sum(axis=1).mean()
        without = float(loss_of(build(**hyper), history, lengths))
        assert expected > 1e-4
        found = float(loss_of(model, history, lengths)) - without
        assert found == pytest.approx(expected, abs=2e-6, rel=1e-3)

    def test_it_has_a_gradient_of_its_own(self) -> None:
        slopes = []
        for penalty in (1.0, 1001.0):
            model = build(routing_penalty=penalty, sampler="all", **{"capsual.recency": False})
            loss_of(model, *some_users()).backward()
            slopes.append(model.capsual_layer.bilinear_mapping_matrix.grad.numpy())
        assert np.abs(slopes[1] - slopes[0]).max() > 1e-2

    def test_it_evens_the_weights_out(self) -> None:
        hyper = {"routing_penalty": 300.0, "sampler": "all", "optimizer.learning_rate": 0.02}
        model, users = build(**hyper), some_users()
        optimizer = CONTRACT.create_optimizer(model, settings(**hyper))
        spread = []
        for _ in range(30):
            with paddle.no_grad():
                _, weights = model.interests(*(paddle.to_tensor(x) for x in users))
            spread.append((weights.numpy().var(axis=2) ** 2).sum(axis=1).mean())
            loss_of(model, *users).backward()
            optimizer.step()
            optimizer.clear_grad()
        assert spread[-1] < 0.7 * spread[0]


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
    assert float(printed["loss"]) == float(loss)
    loss.backward()
    gradient = model.item_emb.weight.grad
    chosen.step()
    return model, before, model.item_emb.weight.numpy(), gradient


class TestTrainingStep:
    @pytest.mark.parametrize("attention", ["max", "hard", "soft"])
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

    @pytest.mark.parametrize("batch_negatives", [True, False])
    def test_adam_touches_looked_up_rows_alone(self, batch_negatives: bool) -> None:
        model = build(item_count=500, batch_negatives=batch_negatives)
        model.softmax.sampler.count_items = lambda: np.ones(500)
        before = model.item_emb.weight.numpy().copy()
        optimizer = CONTRACT.create_optimizer(model, settings())
        loss_of(model, *some_users()).backward()
        optimizer.step()
        moved = (model.item_emb.weight.numpy() != before).any(axis=1).sum()
        looked_up = len(set(some_users()[0].ravel()) - {0} | set(LABELS.ravel())) + 7  # negatives
        assert 0 < moved <= looked_up

    @pytest.mark.parametrize("attention", ["max", "hard", "soft"])
    def test_everything_trainable_gets_a_gradient(self, attention: str) -> None:
        model, _, _, _ = one_step(relu_layer=True, normalize=False, attention=attention)
        assert [n for n, p in model.named_parameters() if p.trainable and p.grad is None] == []
        assert not model.capsual_layer.routing_logits.trainable

    def test_dropout_changes_training_alone(self) -> None:
        model, users = build(dropout=0.5, sampler="all"), some_users()
        assert (interests(model, *users) == interests(model, *users)).all()
        assert float(loss_of(model, *users)) != float(loss_of(model, *users))
        plain = build(sampler="all")
        assert float(loss_of(plain, *users)) == float(loss_of(plain, *users))

    def test_infer_forward_is_the_user_tower(self) -> None:
        model = build(dropout=0.5)
        model.train()
        history, lengths = some_users()
        batch = [history, lengths, np.zeros((5, 1, 2), "int64")]
        vectors, weights = CONTRACT.infer_forward(model, None, batch, settings())
        assert vectors.shape == [5, K, D]
        assert weights.shape == [5, K, L]
        assert (vectors.numpy() == interests(model, history, lengths)).all()

    def test_counts_come_from_the_log_of_the_yaml(self, tmp_path: Path) -> None:
        (tmp_path / "train").mkdir()
        (tmp_path / "train" / "part-0").write_text("1,2,1\n1,2,2\n2,5,1\n2,2,2\n")
        model = build(tmp_path, sampler="popularity", sampler_power=1.0)
        shares = model.softmax.sampler.shares.numpy()
        # three clicks, one, and one for each of the 27 others
        assert shares[[0, 2, 5, 9]].tolist() == pytest.approx([0, 3 / 31, 1 / 31, 1 / 31])
        assert np.isfinite(float(loss_of(model, *some_users())))

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
        load_parameters(folder, model, CONTRACT.adapt_state_dict)

    def test_names_and_shapes_are_paddlerecs(self) -> None:
        model = build(relu_layer=True, **UPSTREAM)
        given = {name: list(value.shape) for name, value in model.state_dict().items()}
        assert given == {n: s for n, s in self.upstream.items() if n != "embedding_bias"}

    @pytest.mark.parametrize("attention", ["max", "hard", "soft"])  # has no parameters
    def test_paddlerecs_checkpoint_loads(self, tmp_path: Path, attention: str) -> None:
        folder = self.checkpoint(tmp_path / "0")
        model = build(relu_layer=True, normalize=False, attention=attention, **UPSTREAM)
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


def test_the_folder_needs_paddle_numpy_and_scipy_alone(tmp_path: Path) -> None:
    script = f"""
import sys


class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("paddlerec_milvus", "polars", "pymilvus", "pydantic", "tqdm"):
            raise ImportError("not for a model folder: " + name)


import paddle
import scipy.sparse

sys.meta_path.insert(0, Refuse())
before = set(sys.modules)
sys.path.insert(0, {str(MIND)!r})
import dygraph_model, mind_infer_reader, mind_reader

own = {{n.split(".")[0] for n in set(sys.modules) - before}} - set(sys.stdlib_module_names)
print(sorted(own))
"""
    done = python("-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    own = sorted(file.stem for file in MIND.glob("*.py"))  # and each of them is needed
    assert done.stdout.splitlines()[-1] == str(own)
    assert "mind_reader" not in sys.modules
