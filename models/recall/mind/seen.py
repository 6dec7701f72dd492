# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a user clicked already, as a second part of each vector: it keeps that out of the list.

Letters: B users, L history, K interests, D dimensions, S dimensions of this part.
"""

from __future__ import annotations

import paddle
import paddle.nn as nn
import paddle.nn.functional as F  # noqa: N812 - paddle's own idiom
from item_table import to_unit


class SeenItems(nn.Layer):
    """Fixed vectors [S] of items, of length 1 and nearly orthogonal to one another.

    An item of the history whose score is above ``above`` would lead the list. A user's part is
    minus the sum of the vectors of such items, each times ``weight`` x what its score is above: the
    inner product takes that much from the item's score, and next to nothing from any other. (For
    many more than S items S directions can be nearly orthogonal: Johnson and Lindenstrauss, 1984.)
    """

    def __init__(self, item_count, dim, weight, above):
        super().__init__()
        self.weight = weight
        self.above = above
        attr = paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, 1.0), trainable=False)
        self.emb = nn.Embedding(item_count, dim, padding_idx=0, weight_attr=attr)

    def items(self, ids):
        """Vectors [..., S] of items ``ids``; zeros of padding and of items that are not known."""
        rows = paddle.where(ids < self.emb.weight.shape[0], ids, paddle.zeros_like(ids))
        return to_unit(self.emb(rows))

    def joined_users(self, vectors, clicks, history, lengths):
        """[B, K, D + S]: a user's ``vectors`` [B, K, D], and what was seen beside each.

        ``clicks`` [B, L, D] are the vectors that items ``history`` [B, L] are scored by, of which
        ``lengths`` [B, 1] are real.
        """
        real = (paddle.arange(history.shape[1]).unsqueeze(0) < lengths).astype("float32")
        scores = paddle.max(paddle.matmul(vectors, clicks, transpose_y=True), axis=1)  # [B, L]
        taken = F.relu(scores - self.above) * real * -self.weight
        own = paddle.matmul(taken.unsqueeze(1), self.items(history))  # [B, 1, S]
        return paddle.concat([vectors, own.expand([-1, vectors.shape[1], -1])], -1)

    def joined_items(self, vectors, ids):
        """[n, D + S] of ``vectors`` [n, D] of the items ``ids`` [n]."""
        return paddle.concat([vectors, self.items(ids)], -1)
