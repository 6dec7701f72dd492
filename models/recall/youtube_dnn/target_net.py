# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A network that makes a user's vectors of the clicks' vectors, trained on one target a history.

Letters: B users, L history, K vectors of a user, D dimensions.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F  # noqa: N812 - paddle's own idiom
from item_table import ItemTable


def real_clicks(lengths, max_l):
    """[B, L] bool: the first ``lengths`` [B, 1] of ``max_l`` are clicks, the rest is padding."""
    return paddle.arange(max_l).unsqueeze(0) < lengths


class TargetNet(ItemTable):
    """A network derives from it and has ``user_vectors``.

    ``items`` are the arguments of ``ItemTable``, ``softmax`` is a ``SampledSoftmax``, ``dropout``
    that of the clicks' vectors.
    """

    def __init__(self, items, softmax, dropout=0.0):
        super().__init__(**items)
        self.softmax = softmax
        self.dropout = dropout

    def user_vectors(self, clicks, lengths):
        """User vectors [B, K, D] and how each click weighs in them [B, K, L], 0 at padding.

        ``clicks`` [B, L, D] are the items' vectors, of which ``lengths`` [B, 1] are real.
        """
        raise NotImplementedError

    def loss(self, vectors, weights, target, labels, ids, negative):
        """The mean loss of a batch; see ``SampledSoftmax``."""
        return self.softmax(vectors, target, labels, ids, negative)

    def forward(self, history, lengths, labels=None):
        """Loss in training (``labels`` [B, 1]); user vectors and weights in evaluation.

        ``history`` [B, L] int64 item ids, padding 0 on the right; ``lengths`` [B, 1] int64.
        """
        if not self.training:
            return self.user_vectors(self.items(history), lengths)
        labels = labels.reshape([-1])
        ids = self.softmax.draw(labels)
        clicks, target, negative = self.lookup(history, labels, ids)
        vectors, weights = self.user_vectors(F.dropout(clicks, self.dropout), lengths)
        return self.loss(vectors, weights, target, labels, ids, negative)
