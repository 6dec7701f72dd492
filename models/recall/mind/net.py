# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""MIND: Multi-Interest Network with Dynamic routing (Li et al., CIKM 2019, arXiv:1904.08030).

Letters: B users, L history, K interests, D dimensions, N negatives, V rows of the item table (row 0
is padding). A user is K vectors; a user's score for an item is the best inner product of the K.

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
- ``hard_negatives`` and ``routing_penalty`` are REMI's (Xie et al., RecSys 2023).

Where it is right and PaddleRec's is not: routing weights are a softmax over interests at *every*
iteration (paper, algorithm 1); the loss subtracts the log of the expected count from the negatives
alone, which tends to the exact softmax as N grows.
"""

from __future__ import annotations

import math

import numpy as np
import paddle
import paddle.nn as nn
import paddle.nn.functional as F  # noqa: N812 - paddle's own idiom
from capsules import InterestCapsules, squash, to_unit
from features import FeatureEmbeddings
from negatives import NegativeLogSum, counted_negatives


def distinct(ids):
    """The distinct of ``ids`` [n] int64, below 2^31, rising, and each one's place among them."""
    packed = np.sort((ids << 32) | np.arange(len(ids)))  # several times as fast as np.unique
    ordered = packed >> 32
    first = np.append(True, ordered[1:] != ordered[:-1])
    places = np.empty_like(ids)
    places[packed & 0xFFFFFFFF] = np.cumsum(first) - 1
    return ordered[first], places


class MIND(nn.Layer):
    """The whole network: embedding, routing, scores by interest, sampled softmax."""

    def __init__(
        self,
        item_count,
        embedding_dim,
        emb_init_std,
        neg_samples,
        pow_p,
        capsules,
        negatives,
        normalize=True,
        temperature=0.1,
        attention="max",
        dropout=0.0,
        batch_negatives=False,
        hard_negatives=0.0,
        routing_penalty=0.0,
        item_codes=None,
        profile_sizes=(),
    ):
        super().__init__()
        self.neg_samples = neg_samples
        self.pow_p = pow_p
        self.normalize = normalize
        self.temperature = temperature
        self.attention = attention
        self.dropout = dropout
        self.batch_negatives = batch_negatives
        self.hard_negatives = hard_negatives
        self.routing_penalty = routing_penalty
        self.item_emb = nn.Embedding(
            item_count,
            embedding_dim,
            padding_idx=0,
            sparse=True,
            weight_attr=paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, emb_init_std)),
        )
        self.capsual_layer: InterestCapsules = capsules
        self.negatives = negatives
        self.item_features = self.profile = self.profile_layer = None
        if item_codes is not None:
            sizes = (item_codes.max(axis=0) + 1).tolist()
            self.register_buffer("item_codes", paddle.to_tensor(item_codes))
            self.item_features = FeatureEmbeddings(sizes, embedding_dim, emb_init_std)
        if profile_sizes:
            self.profile = FeatureEmbeddings(profile_sizes, embedding_dim, emb_init_std)
            self.profile_layer = nn.Linear(embedding_dim, embedding_dim, bias_attr=False)

    def unit(self, vectors):
        """``vectors`` [..., D] at length 1 when the model is normalised, else as they are."""
        return to_unit(vectors) if self.normalize else vectors

    def items(self, ids):
        """Vectors [..., D] of item ``ids``: the item's own embedding, or where there are features
        the mean of it and of those that are known (paper, section 3.2).
        """
        vectors = self.item_emb(ids)
        if self.item_features is not None:
            features, known = self.item_features(self.item_codes[ids])
            vectors = (vectors + features) / (1.0 + known)
        return self.unit(vectors)

    def item_vectors(self):
        """What is searched: [V, D] float32, row 0 is padding and not an item."""
        if self.item_features is None:
            return self.unit(self.item_emb.weight)
        return self.items(paddle.arange(self.item_emb.weight.shape[0]))

    def lookup(self, *ids):
        """Vectors [..., D] of each of ``ids`` [...].

        On a CPU by one look-up of the distinct ids, so that the optimizer sees each row once.
        """
        if not ids[0].place.is_cpu_place():
            return [self.items(part) for part in ids]
        rows, places = distinct(np.concatenate([part.numpy().reshape(-1) for part in ids]))
        table, vectors, start = self.items(paddle.to_tensor(rows)), [], 0
        for part in ids:
            stop = start + math.prod(part.shape)
            place = paddle.to_tensor(places[start:stop]).reshape(part.shape)
            vectors.append(F.embedding(place, table))
            start = stop
        return vectors

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

    def interests(self, history, lengths, profiles=None):
        """User vectors [B, K, D] and routing weights [B, K, L].

        ``history`` [B, L] int64 item ids, padding 0 on the right; ``lengths`` [B, 1] int64;
        ``profiles`` [B, F] int64 codes of the user's features, where the model has them.
        """
        embedded = self.items(history)
        weights = self.capsual_layer.route(embedded, lengths)
        context = self.capsual_layer.context(embedded, lengths)
        vectors = self.finish(self.capsual_layer.gather(embedded, weights, context), profiles)
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

    def sampled_softmax(self, interests, target, labels, ids, negative):
        """Mean loss of ``labels`` [B] (vectors ``target`` [B, D]) against ``ids`` [N], shared.

        Each negative's logit is lowered by the log of its expected count among the draws, so that
        the sum over negatives estimates the sum over all items (Bengio and Senecal, 2008).
        """
        interests = interests / self.temperature
        true = paddle.matmul(interests, target.unsqueeze(-1)).squeeze(-1)  # [B, K]
        batch = labels.shape[0] - 1 if self.batch_negatives else 0  # a row's own is not counted
        rest = NegativeLogSum.apply(
            interests,
            negative,
            self.negatives.log_counts(ids, self.neg_samples, batch),
            counted_negatives(labels, ids),
            self.hard_negatives * self.temperature,
        )
        return paddle.mean(F.softplus(rest - paddle.max(true, axis=1, keepdim=True)))

    def forward(self, history, lengths, labels=None, profiles=None):
        """Loss in training (``labels`` [B, 1]); user vectors and weights in evaluation."""
        if not self.training:
            return self.interests(history, lengths, profiles)
        labels = labels.reshape([-1])
        ids = self.negatives.sample(self.neg_samples)
        if self.batch_negatives:
            ids = paddle.concat([ids, labels])
        embedded, target, negative = self.lookup(history, labels, ids)
        embedded = F.dropout(embedded, self.dropout)
        weights = self.capsual_layer.route(embedded, lengths)
        context = self.capsual_layer.context(embedded, lengths)
        interests = self.suited(embedded, weights, context, target, profiles)
        loss = self.sampled_softmax(interests, target, labels, ids, negative)
        if self.routing_penalty:
            spread = paddle.var(weights, axis=1, unbiased=False)  # [B, K]
            loss = loss + self.routing_penalty * paddle.mean(paddle.sum(spread**2, axis=-1))
        return loss
