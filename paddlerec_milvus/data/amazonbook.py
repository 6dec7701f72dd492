# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Amazon Books as PaddleRec publishes it: one tarball, already filtered, numbered and split.

Its ids and its split are kept, so that figures can be compared with published ones.
Source of the layout: PaddleRec's datasets/AmazonBook (``run.sh``, ``preprocess.py``).
"""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl

from paddlerec_milvus.data.cuts import first_80_percent
from paddlerec_milvus.data.dataset import Dataset
from paddlerec_milvus.data.files import open_bytes
from paddlerec_milvus.data.log import ClickLog, group_clicks, parse_clicks
from paddlerec_milvus.data.split import item_table
from paddlerec_milvus.data.split_choice import BY_USERS
from paddlerec_milvus.data.unpacking import require_unpacked
from paddlerec_milvus.errors import DataError

ADDRESS = "https://paddlerec.bj.bcebos.com/datasets/AmazonBook/AmazonBook.tar.gz"
_SPLITS = ("book_train.txt", "book_valid.txt", "book_test.txt")
_ITEM_MAP = "book_item_map.txt"  # asin,item


def read_tarball(path: Path) -> Dataset:
    """Read the three logs, and the item map where there is one, straight from the archive.

    Nothing is unpacked to disk, so no name in the archive can reach outside a folder.

    Raises:
        DataError: a damaged archive, a missing log, a bad line (with its number).
    """
    members = _members(path)
    missing = [name for name in _SPLITS if name not in members]
    if missing:
        raise DataError(
            f"{path}: holds no {', '.join(missing)}; expected PaddleRec's AmazonBook.tar.gz"
        )
    train, valid, test = (_log(members[name], f"{path}:{name}") for name in _SPLITS)
    items = max(int(log.items.max()) for log in (train, valid, test))
    source_ids = pl.Series(np.arange(1, items + 1)).cast(pl.String)
    if _ITEM_MAP in members:
        source_ids = _mapped(members[_ITEM_MAP], source_ids, f"{path}:{_ITEM_MAP}")
    return Dataset(
        train=train,
        valid=first_80_percent(valid.lengths).held_out(valid),
        test=first_80_percent(test.lengths).held_out(test),
        items=item_table(source_ids, None),
        users=None,
        split=BY_USERS.identity(),
        notes={"already_filtered": True},
        item_ids="string" if _ITEM_MAP in members else "int",
    )


def _members(path: Path) -> dict[str, bytes]:
    members = {}
    try:
        with open_bytes(path) as file, tarfile.open(fileobj=file, mode="r|") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if member.isfile() and name in (*_SPLITS, _ITEM_MAP):
                    stream = archive.extractfile(member)
                    content = stream.read() if stream else b""
                    members[name] = require_unpacked(content, f"{path}:{name}")
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: not an archive that can be read ({error})") from None
    return members


def _log(content: bytes, name: str) -> ClickLog:
    users, items, times = parse_clicks(content, name)
    if not len(users):
        raise DataError(f"{name}: no clicks (empty)")
    return group_clicks(users, items, times)


def _mapped(content: bytes, numbers: pl.Series, name: str) -> pl.Series:
    """Source ids in the order of their numbers; a number that the map lacks keeps itself."""
    try:
        frame = pl.read_csv(
            content, has_header=False, schema={"source_id": pl.String, "item": pl.Int64}
        )
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{name}: expected asin,item lines ({reason})") from None
    table = pl.DataFrame({"item": numbers.cast(pl.Int64)}).join(
        frame.unique("item", keep="first"), on="item", how="left", maintain_order="left"
    )
    return table["source_id"].fill_null(table["item"].cast(pl.String))
