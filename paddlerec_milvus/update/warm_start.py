# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Parameters to start from: those of an earlier model, each item's row at its number of today."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle

from paddlerec_milvus.checkpoint import PREFIX, load_tensors
from paddlerec_milvus.collate import seed_everything
from paddlerec_milvus.data.id_map import read_item_ids
from paddlerec_milvus.data.staging import staged
from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.export.exported_model import ExportedModel
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.zoo import ModelFolder


def write_start(checkpoint: Path, export: ExportedModel, settings: Settings, out: Path) -> None:
    """Write to ``out`` what ``runner.model_init_path`` takes: a model of ``settings`` at its start,
    with the parameters of ``checkpoint``, whose items ``export`` names.

    A tensor with a row for each item has the rows of the items that both logs have, by their own
    ids. CheckpointError: a tensor fits in no way.
    """
    folder = ModelFolder(settings.model_dir)
    seed_everything(settings.runner.seed)
    with folder.active(), folder.settings_errors():
        model = folder.dygraph_model().create_model(settings.dotted())
    before, ids = read_item_ids(export.data), read_item_ids(settings.path("train_data_dir").parent)
    old_rows = 1 + export.manifest.items
    rows = int(settings.hyper_parameters["item_count"])
    pairs = []
    for number in range(1, rows):
        there = None if (own := ids.own(number)) is None else before.number(own)
        if there is not None and 0 < there < old_rows:
            pairs.append((number, there))
    new, old = np.array(pairs, np.int64).reshape(-1, 2).T
    state = {}
    earlier = load_tensors(checkpoint / f"{PREFIX}.pdparams")
    for name, fresh in model.state_dict().items():
        state[name] = _joined(name, fresh, earlier.get(name), (rows, old_rows), (new, old))
    with staged(out) as place:
        paddle.save(state, str(place / f"{PREFIX}.pdparams"))


def _joined(
    name: str,
    fresh: Any,
    earlier: Any,
    rows: tuple[int, int],
    numbers: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
) -> Any:
    """``fresh`` with what of ``earlier`` goes into it.

    ``rows`` of a table of items are how many there are now and were then, ``numbers`` those of the
    same items.
    """
    if not paddle.is_floating_point(fresh) or earlier is None:
        return fresh
    if (fresh.shape[:1], earlier.shape[:1]) == ([rows[0]], [rows[1]]):
        table, (new, old) = fresh.numpy().copy(), numbers
        if table.shape[1:] == tuple(earlier.shape[1:]):
            table[new] = earlier.numpy()[old]
            return paddle.to_tensor(table)
    elif fresh.shape == earlier.shape:
        return earlier
    raise CheckpointError(
        f"{name}: {earlier.shape} in the checkpoint, {fresh.shape} with these settings: start from "
        "scratch, or with the settings of the last update"
    )
