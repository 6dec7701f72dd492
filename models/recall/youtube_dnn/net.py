# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""YouTubeDNN's candidate generation (Covington, Adams and Sargin, RecSys 2016, section 3).

A user is the mean of the embeddings of what was clicked, through a tower of ReLU layers; an item is
its embedding; the score is their inner product. Letters: B users, L history, D dimensions.

Where this network departs from the paper:
- the plain mean is the user's vector unless ``layers`` is above 0: without other features of the
  user (search tokens, age of the example, place) there is little for a tower to combine, and the
  mean lies where the items lie from the first step on;
- items and history share one table of embeddings;
- ``normalize``: vectors have length 1 and logits are divided by ``temperature``, so that the inner
  product that Milvus searches is a cosine.
"""

from __future__ import annotations

import itertools

import paddle
import paddle.nn as nn
from target_net import TargetNet, real_clicks


class YouTubeDNN(TargetNet):
    """The mean of the history, through ``layers`` ReLU layers of ``hidden_size``, if there are."""

    def __init__(self, layers=0, hidden_size=128, **parts):
        super().__init__(**parts)
        dim = parts["items"]["embedding_dim"]
        widths = [dim] + [hidden_size] * layers
        tower = []
        for width, next_width in itertools.pairwise(widths):
            tower += [nn.Linear(width, next_width), nn.ReLU()]
        self.tower = nn.Sequential(*tower, nn.Linear(widths[-1], dim)) if layers else None

    def user_vectors(self, clicks, lengths):
        """The user's vector [B, 1, D] and the weights [B, 1, L] of the clicks, all equal."""
        weights = real_clicks(lengths, clicks.shape[1]).astype("float32").unsqueeze(1)
        weights = weights / paddle.clip(lengths.astype("float32"), min=1.0).unsqueeze(1)
        mean = paddle.matmul(weights, clicks)  # [B, 1, D]
        return self.unit(mean if self.tower is None else self.tower(mean)), weights
