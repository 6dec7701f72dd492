# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Negatives of the sampled softmax, and the scores of items by a user's best interest.

Letters: B users, K interests, D dimensions, N negatives, V rows of the item table (row 0 is
padding).
"""

from __future__ import annotations

import math

import numpy as np
import paddle
from item_table import on_cpu


class NegativeSampler:
    """Draws item ids 1..V-1 with replacement by the inverse of a distribution's CDF.

    ``distribution``: uniform; log_uniform, P(id) = log((id + 1) / id) / log V, which is Zipf's law
    for ids that are ranks of popularity; popularity, P(id) ~ clicks^``power``; all, which draws
    nothing: every item once, the exact softmax. ``count_items`` gives the clicks [V] of each item;
    it is asked only where they are needed.
    """

    def __init__(self, item_count, distribution, power=1.0, count_items=None):
        self.item_count = item_count
        self.distribution = distribution
        self.power = power
        self.count_items = count_items
        self._shares = None
        self._powered_shares = None
        self._cdf = None

    @property
    def shares(self):
        """Share of all clicks [V] float64; an item without a click counts as if it had one."""
        if self._shares is None:
            counts = np.maximum(np.asarray(self.count_items(), dtype=np.float64), 1.0)
            counts[0] = 0.0
            self._shares = paddle.to_tensor(counts / counts.sum())
        return self._shares

    @property
    def _powered(self):
        if self._powered_shares is None:
            weights = self.shares**self.power * (self.shares > 0).astype("float64")
            self._powered_shares = weights / paddle.sum(weights)
        return self._powered_shares

    def sample(self, n):
        """Ids [n] int64; of ``all`` every item once."""
        if self.distribution == "all":
            return paddle.arange(1, self.item_count, dtype="int64")
        if self.distribution == "uniform":
            return paddle.randint(1, self.item_count, [n], dtype="int64")
        draws = paddle.rand([n], dtype="float64")
        if self.distribution == "log_uniform":
            ids = paddle.exp(draws * math.log(self.item_count)).astype("int64")
        else:
            if self._cdf is None:
                self._cdf = paddle.cumsum(self._powered)
            ids = paddle.searchsorted(self._cdf, draws, right=True)
        return paddle.clip(ids, 1, self.item_count - 1)

    def expected_counts(self, ids, n):
        """How often each of ``ids`` is expected among ``n`` draws: [len(ids)] float64, or a number
        where it is the same for all.
        """
        if self.distribution == "all":
            return 1.0
        if self.distribution == "uniform":
            return n / (self.item_count - 1)
        if self.distribution == "log_uniform":
            return paddle.log1p(1.0 / ids.astype("float64")) * (n / math.log(self.item_count))
        return paddle.gather(self._powered, ids) * n

    def log_counts(self, ids, n, batch=0):
        """Log of the expected count among ``n`` draws and the targets of ``batch`` clicks.

        float32, [len(ids)] or a number. Targets are clicks, so they are drawn by popularity.
        """
        counts = self.expected_counts(ids, n)
        if batch:
            counts = counts + paddle.gather(self.shares, ids) * batch
        if isinstance(counts, float):
            return math.log(counts)
        return paddle.log(counts).astype("float32")


def counted_negatives(labels, ids):
    """[B, N] float32: 0.0 where one of ``ids`` [N] is the row's target ``labels`` [B], else 1.0."""
    if on_cpu(labels):  # numpy compares several times as fast
        return paddle.to_tensor((labels.numpy()[:, None] != ids.numpy()).astype(np.float32))
    return (labels.unsqueeze(1) != ids.unsqueeze(0)).astype("float32")


def log_hard_weights(scores):
    """Log of the weights of ``scores`` [B, N]: proportional to exp(score), N in all; [B, N].

    By hand: on a CPU paddle's log_softmax takes several times as long.
    """
    below = scores - paddle.max(scores, axis=1, keepdim=True)
    mean = paddle.mean(paddle.exp(below), axis=1, keepdim=True)
    return below - paddle.log(mean)


class NegativeLogSum(paddle.autograd.PyLayer):
    """log of the sum over negatives of exp(score - log count): [B, 1] float32.

    A score is that of the best of the ``interests`` [B, K, D] for one of ``items`` [N, D]; among
    equal interests the first takes the gradient. ``log_counts`` is [N] or a number; ``counted``
    [B, N] float32 is 1.0 where an item is a negative of the row, else 0.0. With ``hardness`` above
    0 negatives weigh by exp(hardness x score), N in all; to the gradient these weights are
    constants.

    By hand, because the gradients of a maximum over an axis, of a concatenation and of a cross
    entropy take several times as long on a CPU.
    """

    @staticmethod
    def forward(ctx, interests, items, log_counts, counted, hardness):
        """Keep, for each interest after the first, where it was better than those before."""
        by_interest = paddle.transpose(interests, [1, 0, 2])  # [K, B, D]
        best, better = None, []
        for one in by_interest:
            scores = paddle.matmul(one, items, transpose_y=True).astype("float32")
            if best is not None:
                better.append(scores > best)
                scores = paddle.maximum(best, scores)
            best = scores
        logits = best - log_counts
        if hardness > 0:
            logits = logits + log_hard_weights(best * hardness)
        top = paddle.max(logits, axis=1, keepdim=True)
        weights = paddle.exp(logits - top) * counted
        total = paddle.sum(weights, axis=1, keepdim=True) + 1e-30  # none may be counted
        ctx.save_for_backward(by_interest, items, weights, total, *better)
        return paddle.log(total) + top

    @staticmethod
    def backward(ctx, gradient):
        """Hand each score's gradient to the interest that gave it, the last one asked first."""
        by_interest, items, weights, total, *better = ctx.saved_tensor()
        left = weights * (gradient / total)  # [B, N]
        of_interests, of_items = [], None
        for one, won in zip(reversed(by_interest), [*reversed(better), None], strict=True):
            own = left if won is None else left * won.astype("float32")
            left = left - own
            of_interests.append(paddle.matmul(own, items))
            part = paddle.matmul(own, one, transpose_x=True)
            of_items = part if of_items is None else of_items + part
        return paddle.stack(of_interests[::-1], axis=1), of_items


def negative_log_sum(interests, items, log_counts, counted, hardness):
    """:class:`NegativeLogSum` of the same arguments; in a static graph by operations that have one.

    There the ``hardness`` weights are constants to the gradient too.
    """
    if paddle.in_dynamic_mode():
        return NegativeLogSum.apply(interests, items, log_counts, counted, hardness)
    scores = paddle.matmul(interests, items, transpose_y=True)  # [B, K, N]
    best = paddle.max(scores, axis=1)
    logits = best - log_counts
    if hardness > 0:
        weights = log_hard_weights(best * hardness)
        weights.stop_gradient = True
        logits = logits + weights
    top = paddle.max(logits, axis=1, keepdim=True)
    top.stop_gradient = True
    return (
        paddle.log(paddle.sum(paddle.exp(logits - top) * counted, axis=1, keepdim=True) + 1e-30)
        + top
    )
