# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Parameters to start from: those of an earlier model, each item's row at its number of today.

Codes of features go by frequency: the rows of their tables are found by the values' names.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle
import polars as pl

from paddlerec_milvus.checkpoint import PREFIX, load_tensors
from paddlerec_milvus.collate import seed_everything
from paddlerec_milvus.data.features import (
    ITEM_FEATURE_VALUES,
    ITEM_FEATURES,
    USER_FEATURE_VALUES,
    USER_FEATURES,
)
from paddlerec_milvus.data.files import read_bytes
from paddlerec_milvus.data.id_map import read_item_ids
from paddlerec_milvus.data.staging import staged
from paddlerec_milvus.errors import CheckpointError, DataError
from paddlerec_milvus.export.exported_model import ExportedModel
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.training.starting import filled_since, fixed_tensors
from paddlerec_milvus.zoo import ModelFolder

IntArray = npt.NDArray[np.int64]

logger = logging.getLogger(__name__)

FEATURE_FILES = {
    "item_features": (ITEM_FEATURES, ITEM_FEATURE_VALUES),
    "profile": (USER_FEATURES, USER_FEATURE_VALUES),
}
"""Codes and values, by the layer of a model that has a table for each column of them."""


def write_start(checkpoint: Path, export: ExportedModel, settings: Settings, out: Path) -> None:
    """Write to ``out`` what ``runner.model_init_path`` takes: a model of ``settings`` at its start,
    with the parameters of ``checkpoint``, whose items ``export`` names.

    A tensor with a row for each item has the rows of the items that both logs have, by their own
    ids; one of feature codes those of the values that both have. A table that nothing trains and
    that is filled from the log is today's. CheckpointError: a tensor fits in no way.
    """
    folder = ModelFolder(settings.model_dir)
    seed_everything(settings.runner.seed)
    contract, config = folder.dygraph_model(), settings.dotted()
    with folder.active(), folder.settings_errors():
        model = contract.create_model(config)
        fixed = fixed_tensors(model)
        contract.create_optimizer(model, config)  # which fills tables from the log of today
    data = settings.path("train_data_dir").parent
    before, ids = read_item_ids(export.data), read_item_ids(data)
    old_rows = 1 + export.manifest.items
    rows = int(settings.hyper_parameters["item_count"])
    pairs = []
    for number in range(1, rows):
        there = None if (own := ids.own(number)) is None else before.number(own)
        if there is not None and 0 < there < old_rows:
            pairs.append((number, there))
    fresh = model.state_dict()
    earlier = load_tensors(checkpoint / f"{PREFIX}.pdparams")
    state = feature_tables(fresh, earlier, export.data, data)
    state |= {name: fresh[name] for name in filled_since(model, fixed)}
    same = np.array(pairs, np.int64).reshape(-1, 2)
    for name, tensor in fresh.items():
        if name not in state:
            state[name] = _joined(name, tensor, earlier.get(name), (rows, old_rows), same)
    with staged(out) as place:
        paddle.save(state, str(place / f"{PREFIX}.pdparams"))


def feature_tables(
    fresh: Mapping[str, Any], earlier: Mapping[str, Any], before: Path | None, today: Path
) -> dict[str, Any]:
    """The tables of feature codes of ``fresh``, with the rows of ``earlier`` for the same values.

    ``before`` and ``today`` are the prepared folders of both; where one does not name the values of
    its codes, the tables stay as they are. CheckpointError: a row has another width.
    """
    tables: dict[str, Any] = {}
    for layer, files in FEATURE_FILES.items():
        pattern = re.compile(rf"{layer}\.tables\.(\d+)\.weight")
        own = {name: int(match[1]) for name in fresh if (match := pattern.fullmatch(name))}
        if not own:
            continue
        then, now = (_value_codes(folder, *files) for folder in (before, today))
        if not (then and now):
            where = before if now else today
            logger.info("%s: %s names no values of its codes: it starts anew", layer, where)
        for name, number in own.items():
            column = [*now][number] if number < len(now) else ""
            place = [*then].index(column) if column in then else -1
            old = earlier.get(f"{layer}.tables.{place}.weight")
            tables[name] = fresh[name]
            if old is not None:
                sizes = len(fresh[name]), len(old)
                pairs = _same_values(now[column], then[column], sizes)
                tables[name] = _joined(name, fresh[name], old, sizes, pairs)
    return tables


def _value_codes(folder: Path | None, codes: str, values: str) -> dict[str, dict[str, int]]:
    """The code of each value, by column in the order of the columns; empty: they are not named."""
    if folder is None or not ((folder / codes).is_file() and (folder / values).is_file()):
        return {}
    try:
        header = read_bytes(folder / codes).partition(b"\n")[0]
        columns = pl.read_csv(header, infer_schema=False).columns[1:]
        table = pl.read_csv(read_bytes(folder / values), infer_schema=False)
        rows = table.select("column", "value", pl.col("code").cast(pl.Int64)).rows()
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{folder / values}: cannot be read ({reason}); prepare it anew") from None
    return {
        column: {value: code for name, value, code in rows if name == column} for column in columns
    }


def _same_values(
    now: Mapping[str, int], then: Mapping[str, int], sizes: tuple[int, int]
) -> IntArray:
    """[n, 2]: the codes of each value that both have, now and then, which are below ``sizes``."""
    pairs = np.array([(now[one], then[one]) for one in now if one in then], np.int64).reshape(-1, 2)
    return pairs[(pairs < sizes).all(axis=1)]


def _joined(name: str, fresh: Any, earlier: Any, sizes: tuple[int, int], pairs: IntArray) -> Any:
    """``fresh`` with what of ``earlier`` goes into it.

    ``sizes`` of a table are its rows now and then, ``pairs`` [n, 2] those of the same items or
    values.
    """
    if not paddle.is_floating_point(fresh) or earlier is None:
        return fresh
    if (fresh.shape[:1], earlier.shape[:1]) == ([sizes[0]], [sizes[1]]):
        table, (new, old) = fresh.numpy().copy(), pairs.T
        if table.shape[1:] == tuple(earlier.shape[1:]):
            table[new] = earlier.numpy()[old]
            return paddle.to_tensor(table)
    elif fresh.shape == earlier.shape:
        return earlier
    raise CheckpointError(
        f"{name}: {earlier.shape} in the checkpoint, {fresh.shape} with these settings: start from "
        "scratch, or with the settings of the last update"
    )
