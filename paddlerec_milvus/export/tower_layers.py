# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The towers of a model as static graphs, in PaddlePaddle's format for inference.

Letters: B users, L = maxlen clicks, K interests, D dimensions, n items, F features.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import paddle
from paddle.static import InputSpec

from paddlerec_milvus.encoder import Encoder
from paddlerec_milvus.errors import ModelError
from paddlerec_milvus.export.manifest import CODES, HISTORY, ITEM, LENGTH

PREFIX = "inference"  # .json is the graph, .pdiparams its parameters


class _UserTower(paddle.nn.Layer):  # type: ignore[misc]
    """Interests [B, K, D] of ``hist_item`` [B, L] and ``seq_len`` [B, 1]."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.model = encoder.model
        self._encoder = encoder

    def forward(self, hist_item: Any, seq_len: Any) -> Any:
        nothing = paddle.zeros([1, 1, 1], "int64")
        encoder = self._encoder
        vectors = encoder.contract.infer_forward(
            encoder.model, None, [hist_item, seq_len, nothing], encoder.config
        )[0]
        return vectors if vectors.ndim == 3 else vectors.unsqueeze(1)


class _ItemTower(paddle.nn.Layer):  # type: ignore[misc]
    """Vectors [n, D] of items ``item`` [n] by their ``codes`` [n, F]."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.model = encoder.model
        self._encoder = encoder

    def forward(self, item: Any, codes: Any) -> Any:
        encoder = self._encoder
        return encoder.model.vectors_by_codes(item, codes)


def save_user_tower(encoder: Encoder, folder: Path) -> None:
    """Write the user tower to ``folder``. ModelError: it is no static graph."""
    shapes = [
        InputSpec([None, encoder.maxlen], "int64", HISTORY),
        InputSpec([None, 1], "int64", LENGTH),
    ]
    _save(encoder, _UserTower(encoder), shapes, folder)


def save_item_tower(encoder: Encoder, columns: int, folder: Path) -> None:
    """Write to ``folder`` what makes vectors of ``columns`` features. ModelError: as above."""
    shapes = [InputSpec([None], "int64", ITEM), InputSpec([None, columns], "int64", CODES)]
    _save(encoder, _ItemTower(encoder), shapes, folder)


def _save(encoder: Encoder, tower: Any, shapes: list[Any], folder: Path) -> None:
    tower.eval()
    try:
        with encoder.folder.active(), paddle.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of paddle's own, about its static mode
            graph = paddle.jit.to_static(tower, input_spec=shapes, full_graph=True)
            paddle.jit.save(graph, str(folder / PREFIX))
    except Exception as error:  # whatever tracing a model's code meets
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        where = next((line for line in lines if line.startswith("File") and "models" in line), "")
        reason = lines[-1] if lines else type(error).__name__
        raise ModelError(
            f"{encoder.folder.path.name}: cannot be made a static graph: {reason:.300}"
            f"{f' ({where})' if where else ''}"
        ) from error
