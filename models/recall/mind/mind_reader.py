# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Training samples of MIND: those of click_reader.py, with the user's profile where it is set."""

from __future__ import annotations

import click_reader
from profiles import Profiles


class RecDataset(click_reader.RecDataset):
    """A user's profile [B, F] comes fourth where ``hyper_parameters.user_features`` is set."""

    def __init__(self, file_list, config):
        super().__init__(file_list, config)
        on = config.get("hyper_parameters.user_features", False)
        self.profiles = Profiles(config) if on else None

    def batch_of(self, samples, rng):
        """``[hist_item [B, maxlen], target_item [B, 1], seq_len [B, 1], profile [B, F]]``."""
        batch = super().batch_of(samples, rng)
        return batch if self.profiles is None else [*batch, self.profiles(self.users[samples])]
