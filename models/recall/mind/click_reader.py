# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Training samples: a click, and the clicks before it.

Every (user, position) of the log is one sample. With ``hyper_parameters.next_n`` above 1 the target
is any of the next ``next_n`` clicks, drawn anew in each epoch.
"""

from __future__ import annotations

import numpy as np
from click_log import ClickReader


class RecDataset(ClickReader):
    """Samples ``[hist_item [maxlen], target_item [1], seq_len [1]]``, padding 0 on the right."""

    def __init__(self, file_list, config):
        min_history = config.get("hyper_parameters.min_history", 1)
        self.next_n = config.get("hyper_parameters.next_n", 1)
        for name, value in (("min_history", min_history), ("next_n", self.next_n)):
            if type(value) is not int or value < 1:
                raise ValueError(f"hyper_parameters.{name}: {value!r} (at least 1)")
        super().__init__(file_list, config)
        # clicks of the same user before each click, and each click's user's last one
        self.before = np.arange(len(self.users)) - np.repeat(self.starts, self.clicks_of)
        self.last = np.repeat(self.starts + self.clicks_of - 1, self.clicks_of)
        self.samples = np.flatnonzero(self.before >= min_history)
        if len(self.samples) == 0:
            raise ValueError(f"no user has more than {min_history} clicks: nothing to train on")

    def batch_of(self, samples, rng):
        """``[hist_item [B, maxlen], target_item [B, 1], seq_len [B, 1]]``."""
        length = np.minimum(self.before[samples], self.maxlen)
        offsets = np.arange(self.maxlen)
        filled = offsets < length[:, None]
        past = np.where(filled, (samples - length)[:, None] + offsets, 0)
        target = samples
        if self.next_n > 1:
            ahead = np.minimum(self.last[samples] - samples + 1, self.next_n)
            target = samples + (rng.random(len(samples)) * ahead).astype(np.int64)
        return [
            np.where(filled, self.items[past], 0),
            self.items[target][:, None],
            length[:, None],
        ]
