# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Side features of users: the coded table of a prepared folder."""

from __future__ import annotations

import numpy as np
from features import read_codes, train_folder


class Profiles:
    """Codes of each user's profile; a user that the table lacks has none (0)."""

    def __init__(self, config):
        path = train_folder(config).parent / "user_features.csv"
        ids, codes = read_codes(path, "user_features")
        order = np.argsort(ids)
        self.ids, self.codes = ids[order], codes[order]
        self.sizes = (codes.max(axis=0) + 1).tolist()

    def __call__(self, users):
        """Codes [B, F] int64 of ``users`` [B]."""
        users = np.asarray(users)
        rows = np.clip(np.searchsorted(self.ids, users), 0, len(self.ids) - 1)
        return np.where((self.ids[rows] == users)[:, None], self.codes[rows], 0)
