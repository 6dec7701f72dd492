# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Behaviour-to-interest dynamic routing (Li et al., CIKM 2019, arXiv:1904.08030, section 3.3).

Letters: B users, L history, K interests, D dimensions.
"""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn as nn
import paddle.nn.functional as F  # noqa: N812 - paddle's own idiom


def identity(dim):
    """Initialises a [dim, dim] map so that it changes nothing."""
    return nn.initializer.Assign(np.eye(dim, dtype="float32"))


def weights_by_length(table, max_l):
    """[L + 1, L], a row for each number of clicks: exp(``table``[age]) or 1, and 0 at padding."""
    age = np.arange(max_l + 1)[:, None] - 1 - np.arange(max_l)
    weights = paddle.to_tensor((age >= 0).astype("float32"))
    if table is None:
        return weights
    age = paddle.to_tensor(np.clip(age, 0, table.shape[0] - 1))
    return F.embedding(age, paddle.exp(table).unsqueeze(1)).squeeze(2) * weights


class InterestCapsules(nn.Layer):
    """Routes a history into interests with one shared bilinear map."""

    def __init__(
        self,
        dim,
        max_k,
        maxlen,
        iters,
        init_std,
        routing_init,
        map_init,
        recency,
        context,
        dynamic_k,
        relu_layer=False,
        weights_learn=False,
    ):
        super().__init__()
        self.iters = iters
        self.routing_init = routing_init
        self.dynamic_k = dynamic_k
        self.weights_learn = weights_learn
        self.frozen_weights = None  # of a click's age, once the layer is frozen
        normal = nn.initializer.Normal(0.0, init_std)
        self.bilinear_mapping_matrix = self.create_parameter(
            [dim, dim], default_initializer=identity(dim) if map_init == "identity" else normal
        )
        self.routing_logits = self.create_parameter(
            [1, max_k, dim if routing_init == "item" else maxlen],
            attr=paddle.ParamAttr(trainable=False),
            default_initializer=normal,
        )
        # logs of the weights of a click's age
        self.recency = self.create_parameter([maxlen], is_bias=True) if recency else None
        # the paper's, applied by the network after a user's profile has joined
        self.relu_layer = nn.Linear(dim, dim) if relu_layer else None
        self.context_mapping_matrix = self.context_recency = None
        if context:
            self.context_mapping_matrix = self.create_parameter(
                [dim, dim], default_initializer=identity(dim)
            )
            if recency:
                self.context_recency = self.create_parameter([maxlen], is_bias=True)

    def initial_logits(self, behaviours, squared):
        """Logits [1 or B, L, K] before the first iteration, for mapped ``behaviours`` [B, L, D] of
        ``squared`` lengths [B, L, 1].
        """
        directions = paddle.transpose(self.routing_logits[0], [1, 0])  # [D, K] or [L, K]
        if self.routing_init == "position":
            return directions[: behaviours.shape[1]].unsqueeze(0)
        return paddle.matmul(behaviours, directions) * paddle.rsqrt(squared + 1e-12)

    def interest_counts(self, lengths):
        """K' [B, 1] = max(1, min(K, log2 of the clicks)), the paper's number of interests."""
        clicks = paddle.clip(lengths.astype("float32"), min=1.0)
        return paddle.clip(paddle.floor(paddle.log2(clicks)), 1, self.routing_logits.shape[1])

    def freeze(self):
        """From here on parameters stay as they are: the weights of a click's age are frozen."""
        self.frozen_weights = {}

    def click_weights(self, table, lengths, max_l):
        """[B, L, 1]: 0 at padding, elsewhere the learned weight exp(``table``[age]), or 1."""
        frozen = self.frozen_weights
        weights = None if frozen is None else frozen.get((id(table), max_l))
        if weights is None:
            weights = weights_by_length(table, max_l)
            if frozen is not None:
                frozen[id(table), max_l] = weights
        return F.embedding(lengths, weights).reshape([-1, max_l, 1])

    def route(self, history, lengths):
        """Weights [B, L, K] by which ``history`` [B, L, D] makes the interests; 0 at padding.

        ``lengths`` [B, 1] clicks are real. Gradients flow through the weights of a click's age
        and, where ``weights_learn``, through all iterations; else none reach the routing, as
        in the authors' published code. Agreement is computed from the inner products of the
        behaviours: with G = b b', an interest z = w b gives z b' = w G and |z|^2 = w G w'.
        """
        clicks = self.click_weights(self.recency, lengths, history.shape[1])
        with paddle.set_grad_enabled(self.weights_learn and paddle.is_grad_enabled()):
            behaviours = paddle.matmul(history, self.bilinear_mapping_matrix)  # S e, [B, L, D]
            products = paddle.matmul(behaviours, behaviours, transpose_y=True)  # G, [B, L, L]
            # the diagonal, by operators that ONNX has
            squared = paddle.sum(products * paddle.eye(history.shape[1]), axis=2, keepdim=True)
            logits = self.initial_logits(behaviours, squared)
            extra = None
            if self.dynamic_k:
                interests = paddle.arange(self.routing_logits.shape[1], dtype="float32")
                extra = (interests >= self.interest_counts(lengths)).unsqueeze(1)  # [B, 1, K]
                logits = logits - extra.astype("float32") * 1e9
            for _ in range(self.iters - 1):
                weights = F.softmax(logits, axis=2) * clicks.detach()
                agreement = paddle.matmul(products, weights)  # [B, L, K]
                length = F.relu(paddle.sum(agreement * weights, axis=1, keepdim=True))  # |z|^2
                logits = logits + agreement * (paddle.rsqrt(length + 1e-9) * length / (1 + length))
            weights = F.softmax(logits, axis=2)
            weights.stop_gradient |= not self.weights_learn  # a static graph knows no no_grad
        weights = weights * clicks
        if extra is not None:  # one beyond K' repeats the first: the best of the K is unchanged
            weights = paddle.where(extra, weights[:, :, :1], weights)
        return weights

    def context(self, history, lengths):
        """[B, 1, D]: the mapped mean of the whole history, by learned weights of a click's age."""
        if self.context_mapping_matrix is None:
            return None
        weights = self.click_weights(self.context_recency, lengths, history.shape[1])
        weights = weights / (paddle.sum(weights, axis=1, keepdim=True) + 1e-9)
        mean = paddle.matmul(weights, history, transpose_x=True)
        return paddle.matmul(mean, self.context_mapping_matrix)

    def gather(self, history, weights, context):
        """Interests [B, K, D] before squashing: what ``weights`` [B, L, K] make of ``history``.

        The sum is mapped, which is the sum of the mapped behaviours at less cost.
        """
        summed = paddle.matmul(weights, history, transpose_x=True)
        interests = paddle.matmul(summed, self.bilinear_mapping_matrix)
        return interests if context is None else interests + context
