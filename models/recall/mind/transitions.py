# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What follows a click: a factorised table of transitions, as a second part of each vector.

Factorised Markov chains (Rendle et al., WWW 2010) over all clicks of the history, by age (as in He
and McAuley, ICDM 2016). Letters: B users, L history, K interests, D dimensions of an interest, T of
this part.
"""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn as nn
import paddle.nn.functional as F  # noqa: N812 - paddle's own idiom
from capsules import weights_by_length
from item_table import lookup_rows, to_unit

START = -0.25  # the log of a click's weight falls by so much a click, until it is learned


class Transitions(nn.Layer):
    """An item has one vector as what comes before, and another as what comes after.

    A user is the sum of the first over the clicks of the history, by a learned weight of a click's
    age, at length 1; an item is the second. ``weight`` is that of this part's cosine beside the
    best interest's, ``dropout`` that of the clicks' vectors in training.
    """

    def __init__(self, item_count, dim, maxlen, std, weight, dropout):
        super().__init__()
        self.weight = weight
        self.dropout = dropout
        attr = paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, std))
        self.before_emb, self.after_emb = (
            nn.Embedding(item_count, dim, padding_idx=0, sparse=True, weight_attr=attr)
            for _ in range(2)
        )
        ages = START * np.arange(maxlen, dtype=np.float32)
        self.recency = self.create_parameter(
            [maxlen], default_initializer=nn.initializer.Assign(ages)
        )
        self.frozen_weights = None  # of a click's age, once the layer is frozen

    def before(self, ids):
        """Vectors [..., T], of length 1, of items ``ids`` as what comes before."""
        return to_unit(self.before_emb(ids))

    def after(self, ids):
        """Vectors [..., T], of length 1, of items ``ids`` as what comes after; zeros of padding and
        of items that the table does not hold.
        """
        rows = paddle.where(ids < self.after_emb.weight.shape[0], ids, paddle.zeros_like(ids))
        return to_unit(self.after_emb(rows))

    def freeze(self):
        """From here on parameters stay as they are: the weights of a click's age are frozen."""
        self.frozen_weights = weights_by_length(self.recency, self.recency.shape[0])

    def users(self, clicks, lengths):
        """Vectors [B, 1, T], of length 1, of histories whose clicks are ``clicks`` [B, L, T]."""
        length = clicks.shape[1]
        weights = self.frozen_weights
        if weights is None or weights.shape[1] != length:
            weights = weights_by_length(self.recency, length)
        weights = F.embedding(lengths, weights)  # [B, 1, L], 0 at padding
        return to_unit(paddle.matmul(weights, clicks))

    def loss(self, softmax, history, lengths, labels, ids):
        """That of this part alone: ``labels`` [B] against negatives ``ids`` [N]."""
        (clicks,) = lookup_rows(self.before, history)
        user = self.users(F.dropout(clicks, self.dropout), lengths)
        target, negative = lookup_rows(self.after, labels, ids)
        return softmax(user, target, labels, ids, negative)

    def joined_users(self, interests, history, lengths):
        """[B, K, D + T]: ``interests`` [B, K, D] with the weighed transitions beside each."""
        own = self.users(self.before(history), lengths) * self.weight
        return paddle.concat([interests, own.expand([-1, interests.shape[1], -1])], -1)

    def joined_items(self, vectors, ids):
        """[..., D + T] of ``vectors`` [..., D] of items ``ids`` [...], with ``after`` beside."""
        return paddle.concat([vectors, self.after(ids)], -1)
