# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""MIND: Multi-Interest Network with Dynamic routing (Li et al., CIKM 2019, arXiv:1904.08030).

Letters: B users, L history, K interests, D dimensions, N negatives, V rows of the item table (row 0
is padding). A user is K vectors; a user's score for an item is the best inner product of the K.

Where this network departs from the paper, each behind a setting:
- ``normalize``: interests and items are L2-normalised and logits divided by ``temperature``, so
  that the inner product that Milvus searches is a cosine. The paper uses raw inner products.
- ``relu_layer``: the paper's ReLU layer after the capsules is off by default; on the unit sphere it
  would leave one orthant only.
- ``attention: hard``: the paper's limit p -> infinity of label-aware attention. ``soft`` is the
  finite p, with |score|^p keeping the score's sign (a power of a negative score is no number). The
  limit holds for scores above 1; of cosines a large p leaves nothing, so there it is ``hard`` or p
  near 1.
- ``capsual.routing_init: item``: routing starts from fixed random directions, so that the same item
  starts alike at every position and for every user. The paper draws at random for each user (served
  lists would change from call to call); ``position`` is PaddleRec's table, bound to positions.
- ``capsual.recency``: each click's routing weights are multiplied by a learned weight of its age (0
  for the last click), 1 at the start. The paper takes a history as a set.
- the bilinear map starts at the identity when ``capsual.map_init`` is ``identity``.
- K is the same for every user; the paper's K' = max(1, min(K, log2 L)) is not applied.

Where it is right and PaddleRec's is not: routing weights are a softmax over interests at *every*
iteration (paper, algorithm 1); the loss subtracts the log of the expected count from the negatives
alone, which tends to the exact softmax as N grows.
"""

from __future__ import annotations

import math

import paddle
import paddle.nn as nn
import paddle.nn.functional as F  # noqa: N812 - paddle's own idiom


def squash(z):
    """Shrink each vector of ``z`` [..., D] to a length below 1, direction kept (paper, eq. 6)."""
    squared = paddle.sum(z * z, axis=-1, keepdim=True)
    return z * (squared / (1.0 + squared) / paddle.sqrt(squared + 1e-9))


def to_unit(vectors):
    """``vectors`` [..., D] at length 1 (``F.normalize``'s gradient is far slower on a CPU)."""
    return vectors * paddle.rsqrt(paddle.sum(vectors * vectors, axis=-1, keepdim=True) + 1e-12)


class InterestCapsules(nn.Layer):
    """Behaviour-to-interest dynamic routing with one shared bilinear map (paper, section 3.3)."""

    def __init__(
        self, dim, max_k, maxlen, iters, init_std, routing_init, map_init, recency, relu_layer
    ):
        super().__init__()
        self.iters = iters
        self.routing_init = routing_init
        normal = nn.initializer.Normal(0.0, init_std)
        self.bilinear_mapping_matrix = self.create_parameter(
            [dim, dim],
            default_initializer=nn.initializer.Assign(paddle.eye(dim).numpy())
            if map_init == "identity"
            else normal,
        )
        self.routing_logits = self.create_parameter(
            [1, max_k, dim if routing_init == "item" else maxlen],
            attr=paddle.ParamAttr(trainable=False),
            default_initializer=normal,
        )
        # logs of the weights of a click's age
        self.recency = self.create_parameter([maxlen], is_bias=True) if recency else None
        self.relu_layer = nn.Linear(dim, dim) if relu_layer else None

    def initial_logits(self, behaviours):
        """Logits [B, K, L] before the first iteration, for mapped ``behaviours`` [B, L, D]."""
        if self.routing_init == "position":
            return paddle.tile(self.routing_logits, [behaviours.shape[0], 1, 1])
        directions = paddle.transpose(self.routing_logits[0], [1, 0])  # [D, K]
        logits = paddle.matmul(to_unit(behaviours), directions)  # [B, L, K]
        return paddle.transpose(logits, [0, 2, 1])

    def weights_of_clicks(self, lengths, length):
        """[B, 1, L]: 0 at padding, elsewhere 1 or the learned weight of the click's age."""
        positions = paddle.arange(length).unsqueeze(0)
        mask = (positions < lengths).astype("float32").unsqueeze(1)
        if self.recency is None:
            return mask
        age = paddle.clip(lengths - 1 - positions, 0, self.recency.shape[0] - 1)  # [B, L]
        weights = paddle.gather(paddle.exp(self.recency), age.reshape([-1])).reshape(age.shape)
        return mask * weights.unsqueeze(1)

    def forward(self, history, lengths):
        """Route ``history`` [B, L, D], of which ``lengths`` [B, 1] clicks are real.

        Returns the interests [B, K, D] and the weights [B, K, L] of the last iteration. Gradients
        flow through the last one only, as in the authors' published code.
        """
        behaviours = paddle.matmul(history, self.bilinear_mapping_matrix)  # S e, [B, L, D]
        clicks = self.weights_of_clicks(lengths, history.shape[1])
        with paddle.no_grad():
            fixed = behaviours.detach()
            logits = self.initial_logits(fixed)  # [B, K, L]
            for _ in range(self.iters - 1):
                weights = F.softmax(logits, axis=1) * clicks
                interests = squash(paddle.matmul(weights, fixed))  # [B, K, D]
                logits = logits + paddle.matmul(interests, fixed, transpose_y=True)
            weights = F.softmax(logits, axis=1)
        weights = weights * clicks
        interests = squash(paddle.matmul(weights, behaviours))
        if self.relu_layer is not None:
            interests = F.relu(self.relu_layer(interests))
        return interests, weights


class NegativeSampler:
    """Draws item ids 1..V-1 with replacement by the inverse of a distribution's CDF."""

    def __init__(self, item_count, distribution):
        self.item_count = item_count
        self.distribution = distribution

    def sample(self, n):
        """Draw ``n`` ids and give each one's log of the expected count among the ``n``."""
        if self.distribution == "uniform":
            ids = paddle.randint(1, self.item_count, [n], dtype="int64")
            log_count = paddle.full([n], math.log(n / (self.item_count - 1)), dtype="float32")
            return ids, log_count
        # P(id) = log((id + 1) / id) / log V: ids are ranks of popularity, so this is Zipf's law
        span = math.log(self.item_count)
        ids = paddle.exp(paddle.rand([n], dtype="float64") * span).astype("int64")
        ids = paddle.clip(ids, 1, self.item_count - 1)
        rank = ids.astype("float64")
        log_count = paddle.log(paddle.log1p(1.0 / rank) * (n / span)).astype("float32")
        return ids, log_count


class MIND(nn.Layer):
    """The whole network: embedding, routing, label-aware attention, sampled softmax."""

    def __init__(
        self,
        item_count,
        embedding_dim,
        emb_init_std,
        neg_samples,
        maxlen,
        pow_p,
        capsual_iters,
        capsual_max_k,
        capsual_init_std,
        routing_init,
        map_init,
        recency,
        relu_layer,
        normalize,
        temperature,
        attention,
        sampler,
        dropout,
    ):
        super().__init__()
        self.neg_samples = neg_samples
        self.maxlen = maxlen
        self.pow_p = pow_p
        self.normalize = normalize
        self.temperature = temperature
        self.attention = attention
        self.dropout = dropout
        self.item_emb = nn.Embedding(
            item_count,
            embedding_dim,
            padding_idx=0,
            sparse=True,
            weight_attr=paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, emb_init_std)),
        )
        self.capsual_layer = InterestCapsules(
            embedding_dim,
            capsual_max_k,
            maxlen,
            capsual_iters,
            capsual_init_std,
            routing_init,
            map_init,
            recency,
            relu_layer,
        )
        self.negatives = NegativeSampler(item_count, sampler)

    def unit(self, vectors):
        """``vectors`` [..., D] at length 1 when the model is normalised, else as they are."""
        return to_unit(vectors) if self.normalize else vectors

    def interests(self, history, lengths):
        """User vectors [B, K, D] and routing weights [B, K, L].

        ``history`` [B, L] int64 item ids, padding 0 on the right; ``lengths`` [B, 1] int64.
        """
        embedded = self.unit(self.item_emb(history))
        embedded = F.dropout(embedded, self.dropout, training=self.training)
        vectors, weights = self.capsual_layer(embedded, lengths)
        return self.unit(vectors), weights

    def item_vectors(self):
        """What is searched: [V, D] float32, row 0 is padding and not an item."""
        return self.unit(self.item_emb.weight)

    def label_aware_attention(self, interests, target):
        """One vector [B, D] from ``interests`` [B, K, D], led by ``target`` [B, D] (eq. 8)."""
        scores = paddle.matmul(interests, target.unsqueeze(-1)).squeeze(-1)  # [B, K]
        if self.attention == "hard":
            chosen = F.one_hot(paddle.argmax(scores, axis=1), interests.shape[1])
            weights = chosen.astype("float32")
        else:
            weights = F.softmax(paddle.sign(scores) * paddle.abs(scores) ** self.pow_p, axis=1)
        return paddle.matmul(weights.unsqueeze(1), interests).squeeze(1)

    def sampled_softmax(self, user, target, labels):
        """Mean loss of ``labels`` [B] (vectors ``target`` [B, D]) against shared negatives.

        Each negative's logit is lowered by the log of its expected count among the N draws, so
        that the sum over negatives estimates the sum over all items (Bengio and Senecal, 2008).
        """
        ids, log_count = self.negatives.sample(self.neg_samples)
        negative = self.unit(self.item_emb(ids))  # [N, D]
        user = user / self.temperature
        true = paddle.sum(user * target, axis=-1, keepdim=True)  # [B, 1]
        false = paddle.matmul(user, negative, transpose_y=True) - log_count  # [B, N]
        hit = (labels.unsqueeze(1) == ids.unsqueeze(0)).astype("float32")
        logits = paddle.concat([true, false - hit * 1e9], axis=1)
        return F.cross_entropy(logits, paddle.zeros([labels.shape[0]], dtype="int64"))

    def forward(self, history, lengths, labels=None):
        """Loss in training (``labels`` [B, 1]); user vectors and weights in evaluation."""
        interests, weights = self.interests(history, lengths)
        if not self.training:
            return interests, weights
        labels = labels.reshape([-1])
        target = self.unit(self.item_emb(labels))  # [B, D]
        user = self.label_aware_attention(interests, target)
        return self.sampled_softmax(user, target, labels)
