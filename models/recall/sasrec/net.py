# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""SASRec: Self-Attentive Sequential Recommendation (Kang and McAuley, ICDM 2018, arXiv:1808.09781).

A causal transformer reads the clicks; its state at a click is the user as known then, and is
compared with the items that may come next. Letters: B users, L history, H heads, D dimensions.

Where this network departs from the paper:
- the loss is a sampled softmax with many negatives that a batch shares, corrected by the log of
  their expected counts; the paper has binary cross entropy with one negative for each target.
  ``loss: gbce`` is gSASRec's (Petrov and Macdonald, RecSys 2023);
- ``normalize``: states and items have length 1 and logits are divided by ``temperature``, so that
  the inner product that Milvus searches is a cosine;
- positions count from the window's first click, and padding is on the right. The paper pads on the
  left, so that a position counts from the window's end: a click would then stand at another one
  in training than when it is the last of a history;
- queries, keys and values are all made of the normalised input (the paper's formula; its code
  normalises the queries alone).
"""

from __future__ import annotations

import math

import paddle
import paddle.nn as nn
import paddle.nn.functional as F  # noqa: N812 - paddle's own idiom
from sequence_net import SequenceNet


class Block(nn.Layer):
    """Self-attention, then a layer for each position, both beside a residual."""

    def __init__(self, dim, heads, dropout):
        super().__init__()
        self.parts = [3, heads, dim // heads]
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(dim)
        self.queries_keys_values = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.hidden_norm = nn.LayerNorm(dim)
        self.hidden = nn.Linear(dim, dim)
        self.hidden_out = nn.Linear(dim, dim)

    def attend(self, x, later):
        """What each position takes of ``x`` [B, L, D]: [B, L, D]. ``later`` [L, L] is a large
        negative number where a key comes after the query.
        """
        parts = self.queries_keys_values(x).reshape([0, 0, *self.parts])  # [B, L, 3, H, D/H]
        queries, keys, values = paddle.transpose(parts, [2, 0, 3, 1, 4])  # each [B, H, L, D/H]
        scores = paddle.matmul(queries, keys, transpose_y=True) / math.sqrt(self.parts[2])
        weights = F.dropout(F.softmax(scores + later), self.dropout, training=self.training)
        taken = paddle.transpose(paddle.matmul(weights, values), [0, 2, 1, 3])  # [B, L, H, D/H]
        return self.attention_out(taken.flatten(2))

    def forward(self, x, later):
        """States [B, L, D] of states ``x`` [B, L, D]."""
        taken = self.attend(self.attention_norm(x), later)
        x = x + F.dropout(taken, self.dropout, training=self.training)
        hidden = F.relu(self.hidden(self.hidden_norm(x)))
        hidden = F.dropout(hidden, self.dropout, training=self.training)
        return x + F.dropout(self.hidden_out(hidden), self.dropout, training=self.training)


class SASRec(SequenceNet):
    """``blocks`` of ``heads``; ``dropout`` is on clicks, on attention and in each block."""

    def __init__(self, maxlen, blocks, heads, **parts):
        super().__init__(**parts)
        dim = parts["items"]["embedding_dim"]
        self.positions = self.create_parameter(
            [maxlen, dim], default_initializer=nn.initializer.Normal(0.0, 0.02)
        )
        self.blocks = nn.LayerList([Block(dim, heads, self.dropout) for _ in range(blocks)])
        self.norm = nn.LayerNorm(dim)

    def states(self, clicks):
        """The state [B, L, D] at each of ``clicks`` [B, L, D], made of it and those before it."""
        length, dim = clicks.shape[1:]
        place = paddle.clip(paddle.arange(length), max=self.positions.shape[0] - 1)
        x = clicks * math.sqrt(dim) + self.positions[place]
        later = paddle.triu(paddle.full([length, length], -1e9), diagonal=1)
        for block in self.blocks:
            x = block(x, later)
        return self.norm(x)
