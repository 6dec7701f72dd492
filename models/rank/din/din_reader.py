# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rows ``clicked items;their categories;item;its category;label`` as samples.

Items and categories are numbers from 1 (0 is padding, and a category that is not known), parted by
spaces; the label is 1 where the user clicked the item next, else 0.
"""

from __future__ import annotations

import numpy as np
from paddle.io import IterableDataset

PADDING = -(10**9)  # what the mask holds where there is no click


class RecDataset(IterableDataset):
    """Samples of eight arrays, int64 but for the label, with L = ``hyper_parameters.maxlen``.

    ``hist_item_seq`` [L], ``hist_cat_seq`` [L]: the last clicks, padding 0 on the right;
    ``target_item`` [1], ``target_cat`` [1]; ``label`` [1] float32; ``mask`` [L, 1]: 0 at a click;
    ``target_item_seq`` [L], ``target_cat_seq`` [L]: the target at each click, 0 at padding.
    """

    def __init__(self, file_list, config):
        super().__init__()
        self.file_list = sorted(file_list)
        self.maxlen = config.get("hyper_parameters.maxlen", 20)
        self.counts = [
            config.get(f"hyper_parameters.{name}", 1) for name in ("item_count", "cat_count")
        ]
        if extra := config.get("hyper_parameters.dense_features", 0):
            raise ValueError(f"hyper_parameters.dense_features: {extra} (rows of files hold none)")

    def __iter__(self):
        for path in self.file_list:
            with open(path, encoding="utf-8") as lines:  # noqa: PTH123 - upstream's paths are strings
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        yield self._sample(line, f"{path}: line {number}")

    def _sample(self, line, place):
        items, cats, item, cat, label = self._parsed(line, place)
        for ids, count, name in (
            ([*items, item], self.counts[0], "item"),
            ([*cats, cat], self.counts[1], "cat"),
        ):
            if not 0 <= min(ids) <= max(ids) < count:
                raise ValueError(
                    f"{place}: {name} ids {min(ids)} to {max(ids)}, but "
                    f"hyper_parameters.{name}_count: {count} allows 0 to {count - 1}"
                )
        history = np.zeros([4, self.maxlen], np.int64)
        length = min(len(items), self.maxlen)
        for row, values in enumerate((items[-length:], cats[-length:], item, cat)):
            history[row, :length] = values
        mask = np.where(np.arange(self.maxlen) < length, 0, PADDING)[:, None]
        target = [np.array([value], np.int64) for value in (item, cat)]
        label = np.array([label], np.float32)
        return [history[0], history[1], *target, label, mask, history[2], history[3]]

    @staticmethod
    def _parsed(line, place):
        try:
            items, cats, item, cat, label = line.split(";")
            items, cats = ([int(one) for one in part.split()] for part in (items, cats))
            row = items, cats, int(item), int(cat), float(label)
        except ValueError:
            row = [], [], 0, 0, -1
        if not row[0] or len(row[0]) != len(row[1]) or row[4] not in (0, 1):
            raise ValueError(
                f"{place}: expected clicked items;as many categories;item;category;0 or 1, "
                f"found {line.strip()!r:.80}"
            )
        return row
