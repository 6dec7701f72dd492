# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a run knows of its items: popularity from the train log, categories from ``items.csv``."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from paddlerec_milvus.data.log import ClickLog
from paddlerec_milvus.data.packed_texts import SharedTexts
from paddlerec_milvus.data.prepared import ITEMS, folder_above, read_column
from paddlerec_milvus.errors import DataError
from paddlerec_milvus.evaluation.beyond_accuracy import IntArray, ItemStatistics, popularity_ranks

logger = logging.getLogger(__name__)


def item_statistics_of(size: int, log: ClickLog | None, test_data: Path) -> ItemStatistics:
    """Items 1 … ``size``: their popularity and their categories.

    Popularity is the number of clicks in ``log``; without one, ids stand for it, which fall by
    popularity. Categories are those of ``items.csv`` beside the folder ``test_data``.
    """
    if log is None:
        clicks, source = np.arange(size, -1, -1), "ids, which fall by popularity"
    else:
        clicks, source = np.bincount(log.items, minlength=size + 1)[: size + 1], "train clicks"
    return ItemStatistics(popularity_ranks(clicks), source, categories_beside(test_data, size))


def categories_beside(test_data: Path, size: int) -> IntArray | None:
    """A number for each category [size + 1], -1 for none; None where no item is known to have one.

    A folder that holds no prepared data, or a damaged ``items.csv``, costs these numbers only.
    """
    folder = folder_above(test_data)
    if not (folder / ITEMS).is_file():
        return None
    try:
        categories = SharedTexts(read_column(folder, "category"), size)
    except DataError as error:
        logger.warning("no diversity by category: %s", error)
        return None
    return categories.by_number.astype(np.int64) if categories.names else None
