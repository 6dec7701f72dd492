# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The loss of a recall network: a softmax over all items, estimated from few negatives.

Letters: B users, K interests, D dimensions, N negatives.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F  # noqa: N812 - paddle's own idiom
from negatives import counted_negatives, negative_log_sum


class SampledSoftmax:
    """Draws negatives, and compares targets with them; an item's score is its best interest's.

    ``sampler`` draws ``neg_samples`` ids for a batch; ``batch_negatives`` adds the batch's targets;
    with ``hard_negatives`` above 0 negatives weigh by exp(this x cosine), as REMI's do (Xie et al.,
    RecSys 2023).
    """

    def __init__(
        self, sampler, neg_samples, temperature, batch_negatives=False, hard_negatives=0.0
    ):
        self.sampler = sampler
        self.neg_samples = neg_samples
        self.temperature = temperature
        self.batch_negatives = batch_negatives
        self.hard_negatives = hard_negatives

    def draw(self, labels):
        """Ids [N] int64 of the negatives that a batch with the targets ``labels`` [B] shares.

        ValueError: ``batch_negatives`` in a static graph, where B is not known.
        """
        if self.batch_negatives and not paddle.in_dynamic_mode():
            raise ValueError("hyper_parameters.batch_negatives: True (False in a static graph)")
        ids = self.sampler.sample(self.neg_samples)
        return paddle.concat([ids, labels]) if self.batch_negatives else ids

    def __call__(self, interests, target, labels, ids, negative):
        """Mean loss of ``labels`` [B] (vectors ``target`` [B, D]) against ``ids`` [N] (``negative``
        [N, D]), for users' ``interests`` [B, K, D].

        Each negative's logit is lowered by the log of its expected count among the draws, so that
        the sum over negatives estimates the sum over all items (Bengio and Senecal, 2008).
        """
        interests = interests / self.temperature
        true = paddle.matmul(interests, target.unsqueeze(-1)).squeeze(-1)  # [B, K]
        batch = labels.shape[0] - 1 if self.batch_negatives else 0  # a row's own is not counted
        rest = negative_log_sum(
            interests,
            negative,
            self.sampler.log_counts(ids, self.neg_samples, batch),
            counted_negatives(labels, ids),
            self.hard_negatives * self.temperature,
        )
        return paddle.mean(F.softplus(rest - paddle.max(true, axis=1, keepdim=True)))
