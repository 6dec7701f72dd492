# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""MIND in PaddleRec's contract: settings in, network, optimizer and the two forward passes out."""

from __future__ import annotations

import functools
import math

import features
import mind_reader
import net
import numpy as np
import paddle
from capsules import InterestCapsules
from negatives import NegativeSampler

# every setting, in the yaml's words, with the value taken when a yaml of PaddleRec's lacks it
DEFAULTS = {
    "embedding_dim": 64,
    "hidden_size": 64,
    "emb_init_std": 0.005,
    "neg_samples": 128,
    "maxlen": 20,
    "pow_p": 1.0,
    "capsual.iters": 3,
    "capsual.max_k": 4,
    "capsual.init_std": 1.0,
    "capsual.routing_init": "item",
    "capsual.map_init": "identity",
    "capsual.recency": True,
    "capsual.dynamic_k": False,
    "context": True,
    "relu_layer": False,
    "normalize": True,
    "temperature": 0.1,
    "attention": "max",
    "sampler": "uniform",
    "sampler_power": 0.75,
    "batch_negatives": False,
    "hard_negatives": 0.0,
    "routing_penalty": 0.0,
    "dropout": 0.0,
    "item_features": False,
    "user_features": False,
    "optimizer.class": "Adam",
    "optimizer.learning_rate": 0.002,
    "optimizer.schedule": "cosine",
    "optimizer.warmup": 0.0,
}
CHOICES = {
    "capsual.routing_init": ("item", "position"),
    "capsual.map_init": ("identity", "normal"),
    "attention": ("max", "hard", "soft"),
    "sampler": ("uniform", "log_uniform", "popularity", "all"),
    "optimizer.schedule": ("constant", "cosine"),
    # those that take sparse gradients
    "optimizer.class": ("Adam", "SGD", "Adagrad", "Momentum", "RMSProp"),
}
AT_LEAST_ONE = ("embedding_dim", "neg_samples", "maxlen", "capsual.iters", "capsual.max_k")
FROM_ZERO = ("sampler_power", "hard_negatives", "routing_penalty")
FROM_ZERO_BELOW_ONE = ("dropout", "optimizer.warmup")
ABOVE_ZERO = ("emb_init_std", "pow_p", "temperature", "capsual.init_std", "optimizer.learning_rate")


def read_settings(config, training=False):
    """The checked settings of ``config`` by their short names; ValueError names key and value.

    Whether there are items enough for the negatives is of ``training`` alone.
    """
    read = {name: config.get(f"hyper_parameters.{name}", value) for name, value in DEFAULTS.items()}
    read["item_count"] = config.get("hyper_parameters.item_count", 0)
    wrong = [
        f"{name}: {read[name]!r} (expected {type(value).__name__})"
        for name, value in DEFAULTS.items()
        if type(read[name]) is not type(value)
        and not (type(value) is float and type(read[name]) is int)
    ]
    if type(read["item_count"]) is not int:
        wrong.append(f"item_count: {read['item_count']!r} (expected int)")
    if not wrong:
        wrong = unusable(read) + (too_many_negatives(read) if training else [])
    if wrong:
        raise ValueError("hyper_parameters." + "; hyper_parameters.".join(wrong))
    return read


def unusable(read):
    """What is wrong with settings ``read`` whose types are right."""
    wrong = [
        f"{name}: {read[name]} (one of {', '.join(choices)})"
        for name, choices in CHOICES.items()
        if read[name] not in choices
    ]
    wrong += [f"{name}: {read[name]} (at least 1)" for name in AT_LEAST_ONE if not read[name] >= 1]
    wrong += [
        f"{name}: {read[name]} (above 0)"
        for name in ABOVE_ZERO
        if not (read[name] > 0 and math.isfinite(read[name]))
    ]
    wrong += [
        f"{name}: {read[name]} (from 0)"
        for name in FROM_ZERO
        if not (read[name] >= 0 and math.isfinite(read[name]))
    ]
    wrong += [
        f"{name}: {read[name]} (from 0 to below 1)"
        for name in FROM_ZERO_BELOW_ONE
        if not 0 <= read[name] < 1
    ]
    if not read["item_count"] >= 2:
        wrong.append(f"item_count: {read['item_count']} (largest item id + 1, at least 2)")
    if read["hidden_size"] != read["embedding_dim"]:
        wrong.append(
            f"hidden_size: {read['hidden_size']} (interests are compared with items, so it equals "
            f"embedding_dim: {read['embedding_dim']})"
        )
    return wrong


def too_many_negatives(read):
    """What is wrong with ``neg_samples`` for the items that there are."""
    items = read["item_count"] - 1
    if read["sampler"] == "all" or read["neg_samples"] <= items:
        return []
    return [
        f"neg_samples: {read['neg_samples']} (there are {items} items; for a softmax over all of "
        "them set sampler: all)"
    ]


def as_tensor(array):
    """``array`` as a tensor; a loader gives tensors, a reader's whole batches are numpy."""
    return array if isinstance(array, paddle.Tensor) else paddle.to_tensor(array)


def count_items(config, item_count):
    """Clicks [V] of each item in the training log."""
    files = [path for path in features.train_folder(config).glob("*") if path.name[0] != "."]
    _, items = mind_reader.read_clicks(sorted(map(str, files)))
    return np.bincount(items, minlength=item_count)[:item_count]


class DygraphModel:
    """What a trainer and an evaluator call."""

    _profiles = None

    def create_model(self, config):
        """Build the network; ValueError says which settings cannot be used."""
        s = read_settings(config)
        profiles = self._profiles_of(config)
        return net.MIND(
            item_count=s["item_count"],
            embedding_dim=s["embedding_dim"],
            emb_init_std=s["emb_init_std"],
            neg_samples=s["neg_samples"],
            pow_p=s["pow_p"],
            capsules=InterestCapsules(
                dim=s["embedding_dim"],
                max_k=s["capsual.max_k"],
                maxlen=s["maxlen"],
                iters=s["capsual.iters"],
                init_std=s["capsual.init_std"],
                routing_init=s["capsual.routing_init"],
                map_init=s["capsual.map_init"],
                recency=s["capsual.recency"],
                context=s["context"],
                dynamic_k=s["capsual.dynamic_k"],
                relu_layer=s["relu_layer"],
                weights_learn=s["routing_penalty"] > 0,
            ),
            negatives=NegativeSampler(
                s["item_count"],
                s["sampler"],
                s["sampler_power"],
                functools.partial(count_items, config, s["item_count"]),
            ),
            normalize=s["normalize"],
            temperature=s["temperature"],
            attention=s["attention"],
            dropout=s["dropout"],
            batch_negatives=s["batch_negatives"],
            hard_negatives=s["hard_negatives"],
            routing_penalty=s["routing_penalty"],
            item_codes=features.item_codes(config, s["item_count"]),
            profile_sizes=profiles.sizes if profiles else (),
        )

    def create_optimizer(self, dy_model, config):
        """Build ``optimizer.class``; Adam touches only the rows that a batch looked up.

        ValueError says which settings training cannot use.
        """
        s = read_settings(config, training=True)
        name = s["optimizer.class"]
        extra = {"lazy_mode": True} if name == "Adam" else {}
        return getattr(paddle.optimizer, name)(
            learning_rate=s["optimizer.learning_rate"],
            parameters=[p for p in dy_model.parameters() if p.trainable],
            **extra,
        )

    def learning_rate(self, config, progress):
        """The learning rate at ``progress`` (0 to 1) of a run, for a trainer that sets it.

        A linear rise over the share ``optimizer.warmup``, then constant or half a cosine down to a
        thousandth (Loshchilov and Hutter, 2017).
        """
        base, warmup, schedule = (
            config.get(f"hyper_parameters.{name}", DEFAULTS[name])
            for name in ("optimizer.learning_rate", "optimizer.warmup", "optimizer.schedule")
        )
        if progress < warmup:
            return base * (progress + 1e-3) / (warmup + 1e-3)
        if schedule == "constant":
            return base
        left = (progress - warmup) / (1.0 - warmup)
        return base * (0.5 * (1.0 + math.cos(math.pi * left)) + 1e-3)

    def create_metrics(self):
        """A recall model is measured after retrieval, not in training."""
        return [], []

    def train_forward(self, dy_model, metrics_list, batch_data, config):
        """Loss of one batch ``[hist_item, target_item, seq_len]``, then profiles if there are."""
        history, labels, lengths, *profiles = (as_tensor(part) for part in batch_data)
        loss = dy_model(history, lengths, labels, *profiles)
        return loss, metrics_list, {"loss": loss}

    def infer_forward(self, dy_model, metrics_list, batch_data, config):
        """User vectors [B, K, D] and routing weights of ``[hist_item, seq_len, eval_item]``, then
        profiles if there are.
        """
        dy_model.eval()
        history, lengths = (as_tensor(part) for part in batch_data[:2])
        profiles = as_tensor(batch_data[3]) if len(batch_data) > 3 else None
        return dy_model(history, lengths, profiles=profiles)

    def freeze(self, dy_model):
        """Parameters change no more: what depends on them alone is computed once."""
        dy_model.capsual_layer.freeze()

    def user_profiles(self, users, config):
        """Codes [B, F] int64 of the profiles of ``users`` [B]; None where the setting is off."""
        profiles = self._profiles_of(config)
        return None if profiles is None else profiles(users)

    def _profiles_of(self, config):
        """The table of profiles, read once; None where the setting is off."""
        if not config.get("hyper_parameters.user_features", DEFAULTS["user_features"]):
            return None
        if self._profiles is None:
            self._profiles = features.Profiles(config)
        return self._profiles

    def item_vectors(self, dy_model):
        """What is put into the index: [item_count, D] float32, row 0 is padding."""
        return dy_model.item_vectors()

    def vectors_of_features(self, dy_model, ids, codes):
        """Vectors [n, D] of items by the ``codes`` [n, F] int64 of their features; 0 is unknown.

        An item of the table (``ids`` [n] int64) brings its own embedding too; of any other the
        features are all that is known. None: the model has no item features. ValueError: codes of
        another table, or an item of which nothing is known.
        """
        if dy_model.item_features is None:
            return None
        sizes = np.array([len(table.weight) for table in dy_model.item_features.tables])
        if codes.shape[1:] != sizes.shape or ((codes < 0) | (codes >= sizes)).any():
            raise ValueError(f"codes of item features must be below {sizes.tolist()}, from 0")
        own = (ids >= 1) & (ids < len(dy_model.item_emb.weight))
        features, known = dy_model.item_features(paddle.to_tensor(codes))
        parts = known + paddle.to_tensor(own[:, None].astype("float32"))
        if (parts.numpy() == 0).any():
            lost = ids[(parts.numpy() == 0)[:, 0]][0]
            raise ValueError(f"item {lost} is new, and the model knows none of its features")
        rows = paddle.to_tensor(np.where(own, ids, 0))  # row 0 is no vector
        return dy_model.unit((dy_model.item_emb(rows) + features) / parts)

    def adapt_state_dict(self, state):
        """PaddleRec's MIND keeps a bias of zeros that nothing trains: drop it."""
        bias = state.get("embedding_bias")
        if bias is not None and not bool((bias != 0).any()):
            state = {name: value for name, value in state.items() if name != "embedding_bias"}
        return state
