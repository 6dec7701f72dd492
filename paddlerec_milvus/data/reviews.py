# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Amazon's review files (``reviews_Books_5.json.gz``): one JSON object a line."""

from __future__ import annotations

import json
from array import array
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from paddlerec_milvus.data.files import open_bytes
from paddlerec_milvus.data.raw_log import RawLog, raw_log
from paddlerec_milvus.errors import DataError

_FIELDS = ("reviewerID", "asin", "unixReviewTime")


def read_reviews(path: Path) -> RawLog:
    """Who reviewed what, and when; plain or gz. Both ids are strings.

    Raises:
        DataError: a line that is no JSON object, or lacks one of the fields, with its number.
    """
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    user_rows, item_rows, times = array("q"), array("q"), array("q")
    with open_bytes(path) as file, tqdm(unit=" reviews", unit_scale=True, disable=None) as bar:
        for number, line in enumerate(file, 1):
            user, item, time = _review(line, f"{path}, line {number}")
            user_rows.append(users.setdefault(user, len(users)))
            item_rows.append(items.setdefault(item, len(items)))
            times.append(time)
            if number % 10_000 == 0:
                bar.update(10_000)
    if not times:
        raise DataError(f"{path}: no reviews (empty); expected one JSON object a line")
    user_ids = pl.Series(list(users), dtype=pl.String).gather(np.asarray(user_rows))
    item_ids = pl.Series(list(items), dtype=pl.String).gather(np.asarray(item_rows))
    return raw_log(user_ids, item_ids, np.asarray(times))


def _review(line: bytes, where: str) -> tuple[str, str, int]:
    shown = line.decode("utf-8", "replace").strip()[:60] or "a blank line"
    try:
        review = json.loads(line)
        user, item, time = (review[field] for field in _FIELDS)
        if user and item and isinstance(user, str) and isinstance(item, str):
            return user, item, int(time)
    except KeyError as error:
        raise DataError(
            f"{where}: no {error.args[0]} in the review; expected {', '.join(_FIELDS)}"
        ) from None
    except (ValueError, TypeError):
        pass
    raise DataError(f"{where}: found '{shown}', expected a JSON object with {', '.join(_FIELDS)}")
