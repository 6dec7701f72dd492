# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""ComiRec-SA: several interests by self-attention (Cen et al., KDD 2020, arXiv:2005.09347).

Each interest weighs the clicks by an attention of its own: A = softmax(W2' tanh(W1 H')), V = A H.
Letters: B users, L history, K interests, D dimensions.

Where this network departs from the paper:
- ``attention: max``: every item is scored by the interest that suits it best, in training as in
  retrieval; ``hard`` is the paper's, where the target chooses for the negatives too;
- the trainable position is a click's age (0 for the last one), not its place in the window;
- ``normalize``: interests and items have length 1 and logits are divided by ``temperature``, so
  that the inner product that Milvus searches is a cosine.
"""

from __future__ import annotations

import math

import paddle
import paddle.nn as nn
import paddle.nn.functional as F  # noqa: N812 - paddle's own idiom
from multi_interest_net import MultiInterestNet
from target_net import real_clicks


class ComiRecSA(MultiInterestNet):
    """``max_k`` interests by an attention with a hidden layer of ``attention_hidden``."""

    def __init__(self, maxlen, max_k, attention_hidden, **parts):
        super().__init__(**parts)
        dim = parts["items"]["embedding_dim"]
        self.ages = self.create_parameter(
            [maxlen, dim], default_initializer=nn.initializer.Normal(0.0, 0.02)
        )
        self.hidden = nn.Linear(dim, attention_hidden, bias_attr=False)  # W1
        self.heads = nn.Linear(attention_hidden, max_k, bias_attr=False)  # W2

    def user_vectors(self, clicks, lengths):
        """Interests [B, K, D] and attention [B, K, L], which sums to 1 over a user's clicks."""
        places = paddle.arange(clicks.shape[1]).unsqueeze(0)
        ages = F.embedding(paddle.clip(lengths - 1 - places, 0, self.ages.shape[0] - 1), self.ages)
        scaled = clicks * math.sqrt(clicks.shape[2]) + ages
        scores = self.heads(paddle.tanh(self.hidden(scaled)))  # [B, L, K]
        real = real_clicks(lengths, clicks.shape[1]).astype("float32").unsqueeze(2)
        # scores of padding are 0 first: else its gradients are numbers below the smallest normal
        # one, in which some processors are 25 times as slow
        weights = F.softmax(scores * real + (real - 1.0) * 1e9, axis=1) * real
        weights = paddle.transpose(weights, [0, 2, 1])
        return self.unit(paddle.matmul(weights, clicks)), weights
