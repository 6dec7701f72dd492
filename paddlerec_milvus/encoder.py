# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A trained checkpoint as two functions: items to vectors, histories to interests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle

from paddlerec_milvus.config import Settings
from paddlerec_milvus.errors import ModelError
from paddlerec_milvus.training.checkpoint import load_parameters
from paddlerec_milvus.zoo import ModelFolder

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


class Encoder:
    """The user tower and the item table of a recall model folder."""

    def __init__(self, settings: Settings, folder: ModelFolder) -> None:
        self.folder = folder
        self.config = settings.dotted()
        self.maxlen = int(self.config.get("hyper_parameters.maxlen", 0))
        if self.maxlen < 1:
            raise ModelError(
                f"{settings.file}: hyper_parameters.maxlen is needed to evaluate a recall model"
            )
        self.contract = folder.dygraph_model()
        with folder.active(), folder.settings_errors(), paddle.utils.unique_name.guard():
            self.model = self.contract.create_model(self.config)
        self.model.eval()

    def load(self, checkpoint: Path) -> None:
        """Load ``checkpoint/rec.pdparams``; CheckpointError lists what differs."""
        with self.folder.active():
            load_parameters(
                checkpoint, self.model, getattr(self.contract, "adapt_state_dict", None)
            )

    def item_vectors(self) -> FloatArray:
        """[item_count, D] float32; row 0 is padding, row i is item i.

        A folder says what is searched by ``DygraphModel.item_vectors(dy_model)``; without it the
        table ``dy_model.item_emb`` is taken, as PaddleRec's own MIND does.
        """
        with self.folder.active(), paddle.no_grad():
            if hasattr(self.contract, "item_vectors"):
                vectors = self.contract.item_vectors(self.model)
            elif hasattr(self.model, "item_emb"):
                vectors = self.model.item_emb.weight
            else:
                raise ModelError(
                    f"{self.folder.path}: has no DygraphModel.item_vectors and no layer item_emb: "
                    "not a recall model that can be searched"
                )
        return np.asarray(vectors.numpy(), dtype=np.float32)

    def interests(self, histories: IntArray, lengths: IntArray) -> FloatArray:
        """Interests [B, K, D] float32 of ``histories`` [B, maxlen] (padding 0), ``lengths`` [B]."""
        batch: list[Any] = [
            paddle.to_tensor(histories),
            paddle.to_tensor(lengths.reshape(-1, 1)),
            paddle.zeros([len(histories), 1, 1], dtype="int64"),
        ]
        with self.folder.active(), paddle.no_grad():
            vectors, _ = self.contract.infer_forward(self.model, None, batch, self.config)
        array = np.asarray(vectors.numpy(), dtype=np.float32)
        return array if array.ndim == 3 else array[:, None, :]
