# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a run knows of its items: popularity from the train log, categories from ``items.csv``."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from paddlerec_milvus.data.log import ClickLog
from paddlerec_milvus.data.prepared import ITEMS, read_categories
from paddlerec_milvus.errors import DataError
from paddlerec_milvus.evaluation.beyond_accuracy import Catalogue, IntArray, popularity_ranks

logger = logging.getLogger(__name__)


def catalogue_of(size: int, log: ClickLog | None, test_data: Path) -> Catalogue:
    """Items 1 … ``size``: their popularity and their categories.

    Popularity is the number of clicks in ``log``; without one, ids stand for it, which fall by
    popularity. Categories are those of ``items.csv`` beside the folder ``test_data``.
    """
    if log is None:
        clicks, source = np.arange(size, -1, -1), "ids, which fall by popularity"
    else:
        clicks, source = np.bincount(log.items, minlength=size + 1)[: size + 1], "train clicks"
    return Catalogue(popularity_ranks(clicks), source, categories_beside(test_data, size))


def categories_beside(test_data: Path, size: int) -> IntArray | None:
    """A number for each category [size + 1], -1 for none; None where no item is known to have one.

    A folder that holds no prepared data, or a damaged ``items.csv``, costs these numbers only.
    """
    folder = (test_data if test_data.is_dir() else test_data.parent).parent
    if not (folder / ITEMS).is_file():
        return None
    try:
        named = read_categories(folder)
    except DataError as error:
        logger.warning("no diversity by category: %s", error)
        return None
    known = {item: name for item, name in named.items() if 1 <= item <= size}
    if not known:
        return None
    numbers = np.full(size + 1, -1, np.int64)
    numbers[list(known)] = np.unique(list(known.values()), return_inverse=True)[1]
    return numbers
