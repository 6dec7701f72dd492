# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""gSASRec's loss: generalised binary cross entropy (Petrov and Macdonald, RecSys 2023)."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F  # noqa: N812 - paddle's own idiom
from negatives import counted_negatives
from sampled_softmax import SampledSoftmax


class GeneralisedBCE(SampledSoftmax):
    """Cross entropy of the target and each negative, the target's probability to the power beta.

    Sampled negatives make cross entropy overconfident; beta = 1 - t (1 - alpha), with alpha the
    share of the items that is drawn, corrects a part ``t`` of that.
    """

    def __init__(self, sampler, neg_samples, temperature, t):
        super().__init__(sampler, neg_samples, temperature)
        self.beta = 1.0 - t * (1.0 - min(1.0, sampler.expected_counts(None, neg_samples)))

    def __call__(self, interests, target, labels, ids, negative):
        """Mean loss of ``labels`` [R] for states ``interests`` [R, 1, D], a sum over the negatives;
        the paper divides it by their number.
        """
        states = interests.squeeze(1) / self.temperature
        true = paddle.sum(states * target, axis=1)
        scores = F.softplus(paddle.matmul(states, negative, transpose_y=True))  # [R, N]
        rest = paddle.sum(scores * counted_negatives(labels, ids), axis=1)
        return paddle.mean(self.beta * F.softplus(-true) + rest)
