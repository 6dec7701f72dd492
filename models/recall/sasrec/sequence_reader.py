# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Training samples for a network that learns at every position: a window of clicks and their next.

A user's clicks are cut to windows so that in every epoch each click but the first is a target once.
Where a user has several windows, their borders lie anew in each epoch.
"""

from __future__ import annotations

import numpy as np
from click_log import ClickReader


class RecDataset(ClickReader):
    """Samples ``[hist_item [maxlen], target_item [maxlen], seq_len [1]]``, padding 0 on the right.

    ``target_item`` at a position is the click after ``hist_item`` there.
    """

    def __init__(self, file_list, config):
        super().__init__(file_list, config)
        targets = self.clicks_of - 1
        windows = -(-targets // self.maxlen)  # of each user
        if not windows.any():
            raise ValueError("no user has more than 1 click: nothing to train on")
        self.room = windows * self.maxlen - targets  # that a user's windows have to spare
        self.user_of = np.repeat(np.arange(len(windows)), windows)  # each window's user
        self.place = np.arange(len(self.user_of)) - np.repeat(np.cumsum(windows) - windows, windows)
        self.samples = np.arange(len(self.user_of))

    def begin_epoch(self, rng):
        """Draw how far each user's windows lie before the user's first click."""
        self.shift = rng.integers(0, self.room + 1)

    def batch_of(self, samples, rng):
        """``[hist_item [B, maxlen], target_item [B, maxlen], seq_len [B, 1]]``."""
        user = self.user_of[samples]
        begin = self.place[samples] * self.maxlen - self.shift[user]
        first = np.maximum(begin, 0)
        length = np.minimum(begin + self.maxlen, self.clicks_of[user] - 1) - first
        offsets = np.arange(self.maxlen)
        filled = offsets < length[:, None]
        clicks = np.where(filled, (self.starts[user] + first)[:, None] + offsets, 0)
        history, target = self.items[clicks], self.items[clicks + 1]
        return [np.where(filled, history, 0), np.where(filled, target, 0), length[:, None]]
