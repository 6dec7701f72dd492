# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""MIND: Multi-Interest Network with Dynamic routing (Li et al., CIKM 2019, arXiv:1904.08030).

Letters: B users, L history, K interests, D dimensions, F feature columns. A user is K vectors; a
user's score for an item is the best inner product of the K.

Where this network departs from the paper, each behind a setting:
- ``attention: max``: every item, target and negative alike, is scored by the interest that suits it
  best, which is how candidates are searched and merged. The paper's label-aware attention lets the
  target choose, and scores the negatives by the target's choice: ``hard`` is its limit
  p -> infinity, ``soft`` its finite p, with |score|^p keeping the score's sign (a power of a
  negative score is no number). Of cosines a large p leaves nothing, so there p stays near 1.
- ``normalize``: interests and items are L2-normalised and logits divided by ``temperature``, so
  that the inner product that Milvus searches is a cosine. The paper uses raw inner products.
- ``context``: the mean of the whole history, by learned weights of a click's age and through a map
  of its own, is added to each interest. The paper joins a profile of the user in this place.
- ``relu_layer``: the paper's ReLU layer after the capsules is off by default; on the unit sphere it
  would leave one orthant only.
- ``capsual.routing_init: item``: routing starts from fixed random directions, so that the same item
  starts alike at every position and for every user. The paper draws at random for each user (served
  lists would change from call to call); ``position`` is PaddleRec's table, bound to positions.
- ``capsual.recency``: each click's routing weights are multiplied by a learned weight of its age (0
  for the last click), 1 at the start. The paper takes a history as a set.
- the bilinear map starts at the identity when ``capsual.map_init`` is ``identity``.
- K is the same for every user unless ``capsual.dynamic_k``: the paper's max(1, min(K, log2 L)).
- ``transitions.weight``: what follows the clicks of the history, by a factorised table of
  transitions, is a part of each vector. It learns by a loss of its own; scores are the weighted sum
  of both parts.
- ``seen.weight``: what was clicked already is a part of each vector, which lowers the scores of the
  history's items: interests are made of their vectors, so they would lead the list.
- ``hard_negatives`` and ``routing_penalty`` are REMI's (Xie et al., RecSys 2023).

Where it is right and PaddleRec's is not: routing weights are a softmax over interests at *every*
iteration (paper, algorithm 1); the loss subtracts the log of the expected count from the negatives
alone, which tends to the exact softmax as N grows.
"""

from __future__ import annotations

import math

import paddle
import paddle.nn as nn
import paddle.nn.functional as F  # noqa: N812 - paddle's own idiom
from capsules import InterestCapsules
from features import FeatureEmbeddings
from item_table import ItemTable, squash, to_unit
from seen import SeenItems
from transitions import Transitions


class MIND(ItemTable):
    """The whole network: embedding, routing, scores by interest, sampled softmax.

    ``items`` are the arguments of ``ItemTable``, ``softmax`` is a ``SampledSoftmax``.
    """

    def __init__(
        self,
        items,
        softmax,
        capsules,
        attention="max",
        pow_p=1.0,
        dropout=0.0,
        routing_penalty=0.0,
        profile_sizes=(),
        transitions=None,
        seen=None,
    ):
        super().__init__(**items)
        self.softmax = softmax
        self.attention = attention
        self.pow_p = pow_p
        self.dropout = dropout
        self.routing_penalty = routing_penalty
        self.capsual_layer: InterestCapsules = capsules
        self.transitions: Transitions | None = transitions
        self.seen: SeenItems | None = seen
        self.profile = self.profile_layer = None
        if profile_sizes:
            dim = items["embedding_dim"]
            self.profile = FeatureEmbeddings(profile_sizes, dim, items["emb_init_std"])
            self.profile_layer = nn.Linear(dim, dim, bias_attr=False)

    def finish(self, capsules, profiles):
        """User vectors [B, K, D] of ``capsules`` [B, K, D], not squashed yet."""
        if self.profile is None and self.capsual_layer.relu_layer is None and self.normalize:
            return to_unit(capsules)  # squashing keeps the direction
        vectors = squash(capsules)
        if self.profile is not None and profiles is not None:
            features, known = self.profile(profiles)
            mean = features / paddle.clip(known, min=1.0)
            vectors = vectors + self.profile_layer(mean).unsqueeze(1)
        if self.capsual_layer.relu_layer is not None:
            vectors = F.relu(self.capsual_layer.relu_layer(vectors))
        return self.unit(vectors)

    def item_vectors(self):
        """What is searched: [V, D] float32, wider with further parts; row 0 is padding."""
        vectors = super().item_vectors()
        return self.joined_items(vectors, paddle.arange(len(vectors)))

    def joined_items(self, vectors, ids):
        """``vectors`` [n, D] of the items ``ids`` [n] with the further parts beside them, if any;
        of length 1 where all parts are known.
        """
        parts = [part for part in (self.transitions, self.seen) if part is not None]
        for part in parts:
            vectors = part.joined_items(vectors, ids)
        return vectors / math.sqrt(1 + len(parts)) if parts else vectors

    def vectors_by_codes(self, ids, codes):
        """As ``ItemTable``'s; of an item that is not of the table the further parts are zeros."""
        return self.joined_items(super().vectors_by_codes(ids, codes), ids)

    def interests(self, history, lengths, profiles=None):
        """User vectors [B, K, D], as wide as the items are searched, and routing weights [B, K, L].

        ``history`` [B, L] int64 item ids, padding 0 on the right; ``lengths`` [B, 1] int64;
        ``profiles`` [B, F] int64 codes of the user's features, where the model has them.
        """
        embedded = self.items(history)
        weights = self.capsual_layer.route(embedded, lengths)
        context = self.capsual_layer.context(embedded, lengths)
        vectors = self.finish(self.capsual_layer.gather(embedded, weights, context), profiles)
        if self.transitions is not None:
            vectors = self.transitions.joined_users(vectors, history, lengths)
        if self.seen is not None:
            if self.transitions is not None:
                embedded = self.transitions.joined_items(embedded, history)
            vectors = self.seen.joined_users(vectors, embedded, history, lengths)
        if self.transitions is not None or self.seen is not None:
            vectors = to_unit(vectors)
        return vectors, paddle.transpose(weights, [0, 2, 1])

    def suited(self, history, weights, context, target, profiles):
        """The interests [B, 1 or K, D] that the loss sees, by the setting ``attention``."""

        def made(of):
            return self.finish(self.capsual_layer.gather(history, of, context), profiles)

        if self.attention == "max":
            return made(weights)
        if self.attention == "hard":  # only the target's nearest is made with a gradient
            with paddle.no_grad():
                scores = paddle.matmul(made(weights), target.unsqueeze(-1))  # [B, K, 1]
                nearest = paddle.argmax(scores, axis=1, keepdim=True)  # [B, 1, 1]
            shape = [-1, weights.shape[1], -1]
            return made(paddle.take_along_axis(weights, nearest.expand(shape), 2))
        interests = made(weights)
        scores = paddle.matmul(target.unsqueeze(1), interests, transpose_y=True)  # [B, 1, K]
        powered = paddle.sign(scores) * paddle.abs(scores) ** self.pow_p
        return paddle.matmul(F.softmax(powered, axis=2), interests)  # label-aware attention, eq. 8

    def forward(self, history, lengths, labels=None, profiles=None):
        """Loss in training (``labels`` [B, 1]); user vectors and weights in evaluation."""
        if not self.training:
            return self.interests(history, lengths, profiles)
        labels = labels.reshape([-1])
        ids = self.softmax.draw(labels)
        embedded, target, negative = self.lookup(history, labels, ids)
        embedded = F.dropout(embedded, self.dropout)
        weights = self.capsual_layer.route(embedded, lengths)
        context = self.capsual_layer.context(embedded, lengths)
        interests = self.suited(embedded, weights, context, target, profiles)
        loss = self.softmax(interests, target, labels, ids, negative)
        if self.routing_penalty:
            spread = paddle.var(weights, axis=1, unbiased=False)  # [B, K]
            loss = loss + self.routing_penalty * paddle.mean(paddle.sum(spread**2, axis=-1))
        if self.transitions is not None:
            loss = loss + self.transitions.loss(self.softmax, history, lengths, labels, ids)
        return loss
