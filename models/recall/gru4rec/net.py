# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""GRU4Rec: session-based recommendations with recurrent networks (Hidasi et al., ICLR 2016,
arXiv:1511.06939).

A gated recurrent unit reads the clicks; its state at a click, mapped to the items' space, is the
user as known then. Letters: B users, L history, D dimensions.

Where this network departs from the paper:
- the loss is a sampled softmax with many negatives that a batch shares, corrected by the log of
  their expected counts; the paper ranks the batch's other targets by pairs (BPR, TOP1);
- a batch holds windows of users' clicks from their start; the paper runs sessions side by side and
  hands states on from batch to batch;
- clicks and items share one table of embeddings; the paper feeds one-hot vectors;
- ``normalize``: states and items have length 1 and logits are divided by ``temperature``, so that
  the inner product that Milvus searches is a cosine.
"""

from __future__ import annotations

import math

import paddle.nn as nn
from sequence_net import SequenceNet


class GRU4Rec(SequenceNet):
    """``layers`` of gated recurrent units of width ``hidden_size``, and a map to D dimensions."""

    def __init__(self, layers, hidden_size, **parts):
        super().__init__(**parts)
        dim = parts["items"]["embedding_dim"]
        self.gru = nn.GRU(dim, hidden_size, num_layers=layers)
        self.out = nn.Linear(hidden_size, dim)

    def states(self, clicks):
        """The state [B, L, D] after each of ``clicks`` [B, L, D]."""
        states, _ = self.gru(clicks * math.sqrt(clicks.shape[2]))
        return self.out(states)
