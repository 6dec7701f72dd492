# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""PaddleRec's contract for a recall model with an item table and a sampled softmax.

A model's ``DygraphModel`` derives from :class:`RecallModel`: it names its settings and builds its
network.
"""

from __future__ import annotations

import functools
import math

import features
import paddle
from click_log import count_items, train_clicks
from item_start import fill, neighbour_vectors, transition_counts
from model_settings import DEFAULTS, LIMITS, read_settings, too_many_negatives
from negatives import NegativeSampler
from sampled_softmax import SampledSoftmax


def as_tensor(array):
    """``array`` as a tensor; a loader gives tensors, a reader's whole batches are numpy."""
    return array if isinstance(array, paddle.Tensor) else paddle.to_tensor(array)


class RecallModel:
    """What a trainer and an evaluator call, but for ``create_model``."""

    defaults = DEFAULTS
    limits = LIMITS

    def conflicts(self, read):
        """What is wrong with settings ``read`` that are right one by one; a model may have some."""
        return []

    def settings_of(self, config, training=False):
        """The checked settings of ``config`` by their short names; ValueError names key and value.

        Whether there are items enough for the negatives is of ``training`` alone.
        """

        def conflicts(read):
            return self.conflicts(read) + (too_many_negatives(read) if training else [])

        return read_settings(config, self.defaults, self.limits, conflicts)

    def items_of(self, config, s):
        """Arguments of the ``ItemTable`` that settings ``s`` describe."""
        return {
            "item_count": s["item_count"],
            "embedding_dim": s["embedding_dim"],
            "emb_init_std": s["emb_init_std"],
            "normalize": s["normalize"],
            "item_codes": features.item_codes(config, s["item_count"]),
        }

    def softmax_of(self, config, s):
        """The loss that settings ``s`` describe."""
        sampler = NegativeSampler(
            s["item_count"],
            s["sampler"],
            s["sampler_power"],
            functools.partial(count_items, config, s["item_count"]),
        )
        return SampledSoftmax(
            sampler, s["neg_samples"], s["temperature"], s["batch_negatives"], s["hard_negatives"]
        )

    def create_optimizer(self, dy_model, config):
        """Build ``optimizer.class``; Adam touches only the rows that a batch looked up. With
        ``item_start: clicks`` tables are filled from ``runner.train_data_dir`` before.

        ValueError says which settings training cannot use.
        """
        s = self.settings_of(config, training=True)
        if s["item_start"] == "clicks":
            if not paddle.in_dynamic_mode():
                raise ValueError(
                    "hyper_parameters.item_start: clicks (tables are filled in dynamic graphs "
                    "alone; in a static one they start at random: item_start: random)"
                )
            counts = transition_counts(*train_clicks(config), s["item_count"])
            self.start_from_clicks(dy_model, counts)
        name = s["optimizer.class"]
        extra = {"lazy_mode": True} if name == "Adam" else {}
        return getattr(paddle.optimizer, name)(
            learning_rate=s["optimizer.learning_rate"],
            parameters=[p for p in dy_model.parameters() if p.trainable],
            **extra,
        )

    def start_from_clicks(self, dy_model, counts):
        """Fill the items' table from ``counts`` [V, V] of what followed what; a model with further
        tables may fill them, too.
        """
        table = dy_model.item_emb.weight
        fill(table, neighbour_vectors(counts, table.shape[1]))

    def learning_rate(self, config, progress):
        """The learning rate at ``progress`` (0 to 1) of a run, for a trainer that sets it.

        A linear rise over the share ``optimizer.warmup``, then constant or half a cosine down to a
        thousandth (Loshchilov and Hutter, 2017).
        """
        base, warmup, schedule = (
            config.get(f"hyper_parameters.{name}", self.defaults[name])
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
        """User vectors [B, K, D] of ``[hist_item, seq_len, eval_item]``, and how the clicks weigh
        in them: [B, K, L], or None where the model has no such weights.
        """
        dy_model.eval()
        return dy_model(*(as_tensor(part) for part in batch_data[:2]))

    def item_vectors(self, dy_model):
        """What is put into the index: [item_count, D] float32, row 0 is padding."""
        return dy_model.item_vectors()

    def vectors_of_features(self, dy_model, ids, codes):
        """Vectors of items, new ones too, by their features: see ``ItemTable``'s."""
        return dy_model.vectors_of_features(ids, codes)
