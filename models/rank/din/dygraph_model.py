# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""DIN in PaddleRec's contract: its settings, the network that they describe, loss and AUC."""

from __future__ import annotations

import net
import paddle
import paddle.nn.functional as F  # noqa: N812 - paddle's own idiom
from model_settings import ABOVE_ZERO, AT_LEAST_ONE, BELOW_ONE, FROM_ZERO, read_settings

DEFAULTS = {
    "cat_count": 1,
    "item_emb_size": 64,
    "cat_emb_size": 64,
    "attention_units": [80, 40],
    "mlp_units": [80, 40],
    "dense_features": 0,
    "dropout": 0.0,
    "train_items": True,
    "optimizer.class": "Adam",
    "optimizer.learning_rate": 0.001,
    "optimizer.weight_decay": 0.0,
}
LIMITS = {
    "cat_count": AT_LEAST_ONE,
    "item_emb_size": AT_LEAST_ONE,
    "cat_emb_size": FROM_ZERO,
    "dense_features": FROM_ZERO,
    "dropout": BELOW_ONE,
    # those that take sparse gradients
    "optimizer.class": ("Adam", "SGD", "Adagrad", "Momentum", "RMSProp"),
    "optimizer.learning_rate": ABOVE_ZERO,
    "optimizer.weight_decay": FROM_ZERO,
}


def conflicts(read):
    """What is wrong with the lists of units among settings ``read``."""
    return [
        f"{name}: {read[name]} (one whole number or more, from 1)"
        for name in ("attention_units", "mlp_units")
        if not read[name] or any(type(size) is not int or size < 1 for size in read[name])
    ]


class DygraphModel:
    """What a trainer and an evaluator call."""

    def create_model(self, config):
        """Build the network; ValueError says which settings cannot be used."""
        s = read_settings(config, DEFAULTS, LIMITS, conflicts)
        names = [name for name in DEFAULTS if not name.startswith("optimizer.")]
        return net.DIN(s["item_count"], **{name: s[name] for name in names})

    def create_feeds(self, batch_data, config=None):
        """The network's inputs, N = 1, and labels [B, 1] of one batch of the reader's eight parts.

        The last two repeat the candidate for each click, which this network does by itself.
        """
        clicks, click_cats, item, cat, label, mask = (
            part if paddle.is_tensor(part) else paddle.to_tensor(part) for part in batch_data[:6]
        )
        real = (mask.squeeze(-1) == 0).astype("float32")
        item, cat, label = (part.reshape([-1, 1]) for part in (item, cat, label))
        return (clicks, click_cats, real, item, cat), label.astype("float32")

    def create_loss(self, logits, label):
        """Mean binary cross entropy of ``logits`` [B, 1] and ``label`` [B, 1]."""
        return F.binary_cross_entropy_with_logits(logits, label)

    def create_optimizer(self, dy_model, config):
        """Build ``optimizer.class``; Adam touches only the rows that a batch looked up.

        ``optimizer.weight_decay`` is of the layers alone (L2), not of the tables.
        """
        s = read_settings(config, DEFAULTS, LIMITS, conflicts)
        name = s["optimizer.class"]
        extra = {"lazy_mode": True} if name == "Adam" else {}
        if s["optimizer.weight_decay"]:
            decay = paddle.regularizer.L2Decay(s["optimizer.weight_decay"])
            for layer in (dy_model.attention, dy_model.mlp):
                for parameter in layer.parameters():
                    parameter.regularizer = decay
        return getattr(paddle.optimizer, name)(
            learning_rate=s["optimizer.learning_rate"],
            parameters=[p for p in dy_model.parameters() if p.trainable],
            **extra,
        )

    def create_metrics(self):
        """AUC: how often a clicked candidate is above one that was not."""
        return [paddle.metric.Auc("ROC")], ["auc"]

    def train_forward(self, dy_model, metrics_list, batch_data, config):
        """Loss of one batch; the metric is updated with it."""
        inputs, label = self.create_feeds(batch_data, config)
        logits = dy_model(*inputs)
        loss = self.create_loss(logits, label)
        self._update(metrics_list, logits, label)
        return loss, metrics_list, {"loss": loss}

    def infer_forward(self, dy_model, metrics_list, batch_data, config):
        """The metric with one batch in it, and nothing to print."""
        inputs, label = self.create_feeds(batch_data, config)
        self._update(metrics_list, dy_model(*inputs), label)
        return metrics_list, None

    def _update(self, metrics_list, logits, label):
        guess = F.sigmoid(logits.detach())
        both = paddle.concat([1 - guess, guess], axis=1).numpy()
        metrics_list[0].update(preds=both, labels=label.astype("int64").numpy())
