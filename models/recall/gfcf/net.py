# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""GF-CF: collaborative filtering as a low-pass filter on a graph (Shen et al., CIKM 2021).

With R the matrix of clicks, each divided by the root of the user's and the item's clicks, and V its
first D right singular vectors, a user's scores are sum over clicks i of n_i^-1/2 V_i V_j' n_j^1/2:
the inner product of two vectors, which is what Milvus searches. The tables come from the log in
closed form. Letters: B users, L history, D dimensions.

Where this network departs from the paper:
- the ideal low-pass filter stands alone. The paper adds the linear filter R'R, which has the rank
  of the catalogue and is no inner product of short vectors;
- each click has a learned weight of its age (0 for the last one), and scores a learned scale: these
  are what training fits, by the sampled softmax of the other models. The paper takes a history as a
  set;
- ``normalize``: vectors have length 1, which drops the popularity of items from the scores.
"""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn as nn
import paddle.nn.functional as F  # noqa: N812 - paddle's own idiom
from item_table import ItemTable
from spectrum import NormalisedLog, singular_vectors


class GFCF(ItemTable):
    """Two tables that :meth:`fit` fills and nothing trains, and the weights of a click's age.

    ``items`` are the arguments of ``ItemTable``, ``softmax`` is a ``SampledSoftmax``, ``dropout``
    that of the clicks' vectors.
    """

    def __init__(self, items, softmax, dropout, maxlen):
        super().__init__(**items)
        self.softmax = softmax
        self.dropout = dropout
        self.item_emb.weight.trainable = False
        self.sources = nn.Embedding(
            items["item_count"],
            items["embedding_dim"],
            padding_idx=0,
            weight_attr=paddle.ParamAttr(
                initializer=nn.initializer.Normal(0.0, items["emb_init_std"]), trainable=False
            ),
        )
        self.recency = self.create_parameter([maxlen], is_bias=True)
        self.log_scale = self.create_parameter([1], is_bias=True)

    def fit(self, users, items):
        """Fill the tables from a training log: ``users`` and ``items`` [n] int64 of its clicks.

        ValueError: in a static graph, where a table has no values yet.
        """
        if not paddle.in_dynamic_mode():
            raise ValueError("GF-CF's tables are filled in dynamic graphs: use tools/trainer.py")
        rows, dim = self.item_emb.weight.shape
        log = NormalisedLog(users, items, rows)
        vectors = singular_vectors(log, dim)
        root = np.sqrt(np.maximum(log.of_item, 1.0))[:, None]
        self.item_emb.weight.set_value((vectors * root).astype("float32"))
        self.sources.weight.set_value((vectors / root).astype("float32"))

    def user_vectors(self, history, lengths):
        """The user's vector [B, 1, D] and the clicks' weights [B, 1, L], 0 at padding."""
        ages = lengths - 1 - paddle.arange(history.shape[1]).unsqueeze(0)  # [B, L]
        table = paddle.exp(self.recency).unsqueeze(1)
        weights = F.embedding(paddle.clip(ages, 0, table.shape[0] - 1), table).squeeze(2)
        weights = (weights * (ages >= 0).astype("float32")).unsqueeze(1)
        clicks = F.dropout(self.sources(history), self.dropout, training=self.training)
        return self.unit(paddle.matmul(weights, clicks)), weights

    def forward(self, history, lengths, labels=None):
        """Loss in training (``labels`` [B, 1]); user vectors and weights in evaluation.

        ``history`` [B, L] int64 item ids, padding 0 on the right; ``lengths`` [B, 1] int64.
        """
        vectors, weights = self.user_vectors(history, lengths)
        if not self.training:
            return vectors, weights
        labels = labels.reshape([-1])
        ids = self.softmax.draw(labels)
        target, negative = self.lookup(labels, ids)
        negative.stop_gradient = False  # the loss hands a gradient back to it
        return self.softmax(vectors * paddle.exp(self.log_scale), target, labels, ids, negative)
