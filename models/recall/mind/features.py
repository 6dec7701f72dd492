# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Side features of items: the coded table of a prepared folder, and embeddings of codes.

Letters: V rows of the item table, F feature columns, D dimensions.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import paddle
import paddle.nn as nn


def read_codes(path, key):
    """Ids [n] and codes [n, F] int64 of a csv with a header ``item,<column>…``; 0 is unknown."""
    if not path.is_file():
        raise ValueError(
            f"hyper_parameters.{key}: True, but there is no {path}; prepare the data with "
            f"--{key.replace('_', '-')} (an older folder with --overwrite), or set it to False"
        )
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.int64, skiprows=1, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path}: expected a header and rows of integers: {error}") from error
    if table.shape[0] == 0 or table.shape[1] < 2 or table.min() < 0:
        raise ValueError(f"{path}: expected an id and at least one code, all from 0, in each row")
    return table[:, 0], table[:, 1:]


def train_folder(config):
    """``runner.train_data_dir``; side features lie beside it, in the prepared folder."""
    folder = Path(config.get("config_abs_dir", ""), config.get("runner.train_data_dir", ""))
    return Path(os.path.normpath(folder))


def item_codes(config, item_count):
    """Codes [V, F] of every item, row 0 (padding) unknown; None where the setting is off."""
    if not config.get("hyper_parameters.item_features", False):
        return None
    path = train_folder(config).parent / "item_features.csv"
    ids, codes = read_codes(path, "item_features")
    missing = np.setdiff1d(np.arange(1, item_count), ids)
    if len(missing) or ids.min() < 1 or ids.max() >= item_count:
        raise ValueError(
            f"{path}: holds {len(ids)} items, {ids.min()} to {ids.max()}, but "
            f"hyper_parameters.item_count: {item_count} has items 1 to {item_count - 1}"
            + (f"; missing: {', '.join(map(str, missing[:5]))}" if len(missing) else "")
        )
    table = np.zeros([item_count, codes.shape[1]], dtype=np.int64)
    table[ids] = codes
    return table


class FeatureEmbeddings(nn.Layer):
    """One table of embeddings for each column; code 0, unknown, is no vector."""

    def __init__(self, sizes, dim, std):
        super().__init__()
        attr = paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, std))
        self.tables = nn.LayerList(
            [
                nn.Embedding(size, dim, padding_idx=0, sparse=True, weight_attr=attr)
                for size in sizes
            ]
        )

    def forward(self, codes):
        """Sum [..., D] of the embeddings of ``codes`` [..., F], and how many are known [..., 1]."""
        total = sum(table(codes[..., column]) for column, table in enumerate(self.tables))
        known = paddle.sum((codes > 0).astype("float32"), axis=-1, keepdim=True)
        return total, known
