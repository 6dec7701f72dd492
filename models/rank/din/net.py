# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""DIN: Deep Interest Network for Click-Through Rate Prediction (Zhou et al., KDD 2018,
arXiv:1706.06978).

Each click of a user weighs by how it goes with one candidate; the weighed sum of the clicks is the
user, as this candidate sees it. Letters: B users, N candidates of a user, L clicks, E dimensions of
an item with its category, H hidden units, F further inputs.

Where this network departs from the paper:
- a user has N candidates at once (a CTR sample is N = 1);
- activations are PReLU; the paper's Dice is one that follows the mean of a batch;
- the last layers also see the product of user and candidate, and further inputs if there are;
- of a category there is one, and clicks have no other side features.
"""

from __future__ import annotations

import itertools

import paddle
import paddle.nn as nn
import paddle.nn.functional as F  # noqa: N812 - paddle's own idiom


class Layers(nn.Layer):
    """Linear layers from ``size`` inputs over ``units``, PReLU between them, to one number.

    The last one starts as the constant ``start``: an untrained network has no opinion.
    """

    def __init__(self, size, units, start=0.0):
        super().__init__()
        sizes = [size, *units]
        self.hidden = nn.LayerList([nn.Linear(*pair) for pair in itertools.pairwise(sizes)])
        self.slopes = nn.LayerList([nn.PReLU(init=0.1) for _ in units])
        zero, constant = (
            paddle.ParamAttr(initializer=nn.initializer.Constant(value)) for value in (0.0, start)
        )
        self.out = nn.Linear(sizes[-1], 1, weight_attr=zero, bias_attr=constant)

    def after_first(self, x, dropout=0.0):
        """[...] of what the first linear layer gave, ``x`` [..., units[0]]."""
        for number, slope in enumerate(self.slopes):
            x = slope(self.hidden[number](x) if number else x)
            x = F.dropout(x, dropout, training=self.training)
        return self.out(x).squeeze(-1)

    def forward(self, x, dropout=0.0):
        """[...] of inputs ``x`` [..., size]."""
        return self.after_first(self.hidden[0](x), dropout)


class AttentionUnit(nn.Layer):
    """How each click weighs for each candidate: layers over both, their difference and product."""

    def __init__(self, size, units):
        super().__init__()
        # all clicks weigh the same at first; if none did, no gradient would say how they should
        self.layers = Layers(4 * size, units, start=1.0)

    def forward(self, clicks, candidates):
        """Weights [B, N, L] of ``clicks`` [B, L, E] for ``candidates`` [B, N, E].

        The first layer of [click, candidate, click - candidate, click * candidate] is a sum of
        parts; those of one side alone are computed once, not for each pair.
        """
        first = self.layers.hidden[0]
        click, candidate, difference, product = paddle.split(first.weight, 4, axis=0)  # [E, H]
        of_clicks = paddle.matmul(clicks, click + difference) + first.bias  # [B, L, H]
        of_candidates = paddle.matmul(candidates, candidate - difference)  # [B, N, H]
        pairs = candidates.unsqueeze(2) * clicks.unsqueeze(1)  # [B, N, L, E]
        hidden = of_clicks.unsqueeze(1) + of_candidates.unsqueeze(2) + paddle.matmul(pairs, product)
        return self.layers.after_first(hidden)


class DIN(nn.Layer):
    """Tables of items and categories, the attention unit, and layers over user and candidate.

    ``cat_emb_size`` 0: items have no category. ``dense_features``: F.
    """

    def __init__(
        self,
        item_count,
        cat_count,
        item_emb_size,
        cat_emb_size,
        attention_units,
        mlp_units,
        dense_features=0,
        dropout=0.0,
        train_items=True,
    ):
        super().__init__()
        normal = nn.initializer.Normal(0.0, 0.05)

        def table(rows, size, trainable=True):
            attr = paddle.ParamAttr(initializer=normal, trainable=trainable)
            return nn.Embedding(rows, size, padding_idx=0, sparse=True, weight_attr=attr)

        self.item_emb = table(item_count, item_emb_size, train_items)
        self.cat_emb = table(cat_count, cat_emb_size) if cat_emb_size else None
        size = item_emb_size + cat_emb_size
        self.attention = AttentionUnit(size, attention_units)
        self.mlp = Layers(3 * size + dense_features, mlp_units)
        self.dropout = dropout

    def items(self, ids, cats):
        """[..., E] of ``ids`` [...] and their categories ``cats`` [...]; 0: none."""
        items = self.item_emb(ids)
        if self.cat_emb is None:
            return items
        return paddle.concat([items, self.cat_emb(cats)], axis=-1)

    def forward(self, clicks, click_cats, real, candidates, candidate_cats, dense=None):
        """Logits [B, N] of ``candidates`` [B, N] for users of ``clicks`` [B, L]; both int64.

        ``real`` [B, L] float32 is 0 where a click is padding, else 1; ``dense`` [B, N, F] float32.
        """
        history, targets = self.items(clicks, click_cats), self.items(candidates, candidate_cats)
        weights = self.attention(history, targets) * real.unsqueeze(1)  # [B, N, L]
        user = paddle.matmul(weights, history)  # [B, N, E]
        parts = [user, targets, user * targets]
        return self.mlp(
            paddle.concat(parts if dense is None else [*parts, dense], -1), self.dropout
        )
