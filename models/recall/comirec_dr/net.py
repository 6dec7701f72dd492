# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""ComiRec-DR: several interests by dynamic routing (Cen et al., KDD 2020, arXiv:2005.09347).

A click's vector goes through a map of its own for each interest and each age; routing then weighs
the clicks. Letters: B users, L history, K interests, D dimensions.

Where this network departs from the paper:
- ``attention: max``: every item is scored by the interest that suits it best, in training as in
  retrieval; ``hard`` is the paper's, where the target chooses for the negatives too;
- a map belongs to a click's age (0 for the last one), not to its place in the window, which for a
  short history says little;
- ``map_init: identity``: a map starts as the identity with a little noise, so that interests lie
  where the items lie from the first step on;
- ``normalize``: interests and items have length 1 and logits are divided by ``temperature``, so
  that the inner product that Milvus searches is a cosine.
"""

from __future__ import annotations

import paddle
import paddle.nn as nn
import paddle.nn.functional as F  # noqa: N812 - paddle's own idiom
from item_table import squash
from multi_interest_net import MultiInterestNet
from target_net import real_clicks


class ComiRecDR(MultiInterestNet):
    """``max_k`` interests by ``iters`` iterations of routing."""

    def __init__(self, maxlen, max_k, iters, map_init, **parts):
        super().__init__(**parts)
        self.max_k = max_k
        self.iters = iters
        dim = parts["items"]["embedding_dim"]
        noise = paddle.normal(0.0, 0.3 / dim**0.5, [maxlen, dim, max_k, dim])
        if map_init == "identity":
            noise = noise + paddle.eye(dim).reshape([1, dim, 1, dim])
        self.maps = self.create_parameter(
            [maxlen, dim, max_k * dim],
            default_initializer=nn.initializer.Assign(noise.reshape([maxlen, dim, -1]).numpy()),
        )

    def user_vectors(self, clicks, lengths):
        """Interests [B, K, D] and routing weights [B, K, L], 0 at padding."""
        length, dim = clicks.shape[1:]
        real = real_clicks(lengths, length).astype("float32").unsqueeze(1)  # [B, 1, L]
        # the clicks by age, the last one first; ages beyond a user's clicks are padding
        ages = paddle.clip(lengths - 1 - paddle.arange(length).unsqueeze(0), min=0)  # [B, L]
        rows = ages + (paddle.cumsum(paddle.ones_like(lengths), axis=0) - 1) * length
        table = clicks.reshape([-1, dim])
        if self.training:
            by_age = F.embedding(rows, table)  # a fast take_along_axis
        else:  # which can be exported
            by_age = paddle.gather(table, rows.reshape([-1])).reshape([-1, length, dim])
        mapped = paddle.bmm(paddle.transpose(by_age, [1, 0, 2]), self.maps[:length])  # [L, B, K D]
        mapped = paddle.transpose(mapped.reshape([length, -1, self.max_k, dim]), [1, 2, 0, 3])
        weights = self.route(mapped if self.routing_penalty else mapped.detach(), real)
        vectors = paddle.matmul(weights.unsqueeze(2), mapped).squeeze(2)
        vectors = self.unit(vectors) if self.normalize else squash(vectors)
        in_time = ages.unsqueeze(1).expand(weights.shape)
        return vectors, paddle.take_along_axis(weights, in_time, 2) * real

    def route(self, mapped, real):
        """Weights [B, K, L] of clicks ``mapped`` [B, K, L, D]; 0 where ``real`` [B, 1, L] is 0.

        Each click shares itself out among the interests, more to those that agree with it; an
        interest z = w m agrees with the clicks by z m' = w (m m') before squashing. Gradients flow
        through it where there is a penalty on the weights; else none do, as in the authors' code.
        """
        logits = paddle.zeros_like(mapped[:, :, :, 0])
        products = paddle.matmul(mapped, mapped, transpose_y=True)  # [B, K, L, L]
        for _ in range(self.iters - 1):
            weights = F.softmax(logits, axis=1) * real
            agreement = paddle.matmul(products, weights.unsqueeze(3)).squeeze(3)
            squared = F.relu(paddle.sum(agreement * weights, axis=2, keepdim=True))  # |z|^2
            logits = logits + agreement * (paddle.rsqrt(squared + 1e-9) * squared / (1 + squared))
        return F.softmax(logits, axis=1) * real
