# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A network whose state at each click predicts the next one, trained at all of them at once.

Letters: B users, L history, D dimensions, R clicks of a batch that are followed by a target.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F  # noqa: N812 - paddle's own idiom
from item_table import ItemTable


class SequenceNet(ItemTable):
    """A network derives from it and has ``states``.

    ``items`` are the arguments of ``ItemTable``, ``softmax`` is a ``SampledSoftmax``, ``dropout``
    that of the clicks' vectors.
    """

    def __init__(self, items, softmax, dropout=0.0):
        super().__init__(**items)
        self.softmax = softmax
        self.dropout = dropout

    def states(self, clicks):
        """The state [B, L, D] at each of ``clicks`` [B, L, D]; no later one may change it."""
        raise NotImplementedError

    def forward(self, history, lengths, targets=None):
        """Loss in training (``targets`` [B, L]: the click after each of the history's); in
        evaluation the user's vector [B, 1, D], the state at the last click, and None.

        ``history`` [B, L] int64 item ids, padding 0 on the right; ``lengths`` [B, 1] int64.
        """
        if not self.training:
            states = self.states(self.items(history))
            last = paddle.clip(lengths - 1, min=0).unsqueeze(2)  # [B, 1, 1]
            last = last.expand([-1, 1, states.shape[2]])
            return self.unit(paddle.take_along_axis(states, last, 1)), None
        real = paddle.arange(history.shape[1]).unsqueeze(0) < lengths
        rows = paddle.nonzero(real.reshape([-1])).reshape([-1])  # [R]
        labels = targets.reshape([-1])[rows]
        ids = self.softmax.draw(labels)
        clicks, target, negative = self.lookup(history, labels, ids)
        states = self.states(F.dropout(clicks, self.dropout))
        states = paddle.gather(states.reshape([-1, states.shape[2]]), rows)  # [R, D]
        return self.softmax(self.unit(states).unsqueeze(1), target, labels, ids, negative)
