# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Test samples from ``user_id:.. hist_item:.. eval_item:..`` lines."""

from __future__ import annotations

import numpy as np
from paddle.io import IterableDataset


class RecDataset(IterableDataset):
    """``[hist_item [maxlen], seq_len [1], eval_item [1, n]]``, int64, padding 0.

    ``n`` is the longest list of truths in the files: none is cut.
    """

    def __init__(self, file_list, config):
        super().__init__()
        self.maxlen = config.get("hyper_parameters.maxlen", 20)
        self.users = [user for path in sorted(file_list) for user in self._read(path)]
        self.most_truths = max((len(truths) for _, truths in self.users), default=0)

    @staticmethod
    def _read(path):
        with open(path, encoding="utf-8-sig") as lines:  # noqa: PTH123 - upstream's paths are strings
            for number, line in enumerate(lines, 1):
                try:
                    pairs = [token.split(":", 1) for token in line.split()]
                    history = [int(value) for slot, value in pairs if slot == "hist_item"]
                    truths = [int(value) for slot, value in pairs if slot == "eval_item"]
                except ValueError as error:
                    raise ValueError(
                        f"{path}:{number}: expected 'user_id:7 hist_item:5 … eval_item:9 …', "
                        f"found {line.strip()!r:.60}"
                    ) from error
                if truths:
                    yield history, truths

    def _padded(self, ids, length):
        return np.array(ids + [0] * (length - len(ids)), dtype="int64")

    def __iter__(self):
        """One user at a time."""
        for history, truths in self.users:
            recent = history[-self.maxlen :]
            yield [
                self._padded(recent, self.maxlen),
                np.array([len(recent)], dtype="int64"),
                self._padded(truths, self.most_truths)[None, :],
            ]
