# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A network of several interests a user, trained as it is searched, or as ComiRec trains.

Letters: B users, L history, K interests, D dimensions, N negatives.
"""

from __future__ import annotations

import paddle
from target_net import TargetNet


class MultiInterestNet(TargetNet):
    """A network derives from it and has ``user_vectors``.

    ``attention``: with max every item, target and negative alike, is scored by its best interest;
    with hard the target chooses the interest and the negatives are scored by that one (Cen et al.,
    KDD 2020). ``routing_penalty`` above 0 is REMI's on uneven weights of the clicks
    (Xie et al., RecSys 2023).
    """

    def __init__(self, attention, routing_penalty, **parts):
        super().__init__(**parts)
        self.attention = attention
        self.routing_penalty = routing_penalty

    def loss(self, vectors, weights, target, labels, ids, negative):
        """The mean loss of a batch: ``vectors`` [B, K, D], ``weights`` [B, K, L], and the items as
        ``SampledSoftmax`` takes them.
        """
        if self.attention == "hard":
            scores = paddle.matmul(vectors, target.unsqueeze(-1)).detach()  # [B, K, 1]
            nearest = paddle.argmax(scores, axis=1, keepdim=True)  # [B, 1, 1]
            vectors = paddle.take_along_axis(vectors, nearest.expand([-1, 1, vectors.shape[2]]), 1)
        loss = super().loss(vectors, weights, target, labels, ids, negative)
        if self.routing_penalty:
            spread = paddle.var(weights, axis=2, unbiased=False)  # [B, K]
            loss = loss + self.routing_penalty * paddle.mean(paddle.sum(spread**2, axis=-1))
        return loss
