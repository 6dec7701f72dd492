# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The user tower of one checkpoint.

A model folder's code is loaded with its folder as working directory and on ``sys.path``, which
belong to the whole process: so the towers of all checkpoints share one lock for that. What answers
requests has a lock of its own, and goes on while another checkpoint is loaded.
"""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING, Protocol

from paddlerec_milvus.errors import MissingPackageError
from paddlerec_milvus.export.exported_model import ExportedModel
from paddlerec_milvus.export.onnx_tower import OnnxTower
from paddlerec_milvus.retrieval.base import FloatArray, IntArray
from paddlerec_milvus.sampling import have_unit_length
from paddlerec_milvus.trained_model import TrainedModel

if TYPE_CHECKING:
    from paddlerec_milvus.encoder import Encoder


class UserTower(Protocol):
    """What the service needs of a model; safe to use from several threads."""

    fingerprint: str
    """Tells this model from all others."""
    maxlen: int
    """Clicks of a history that it looks at."""
    items: int
    """It knows the items 1 … items."""
    dimension: int
    """D of interests and item vectors."""
    unit: bool
    """Whether item vectors have length 1."""

    def interests(self, histories: IntArray, lengths: IntArray) -> FloatArray:
        """Interests [B, K, D] of ``histories`` [B, maxlen] (padding 0) with ``lengths`` [B]."""
        ...

    def vectors_of_features(self, ids: IntArray, codes: IntArray) -> FloatArray:
        """Vectors [n, D] of items ``ids`` [n] by feature ``codes`` [n, F]; ModelError: it has none.

        Those that the model does not know are made of their features alone.
        """
        ...

    def item_vectors(self) -> FloatArray:
        """The table of items [items + 1, D]; row 0 is padding."""
        ...

    def sample(self) -> FloatArray:
        """Interests [n, D] of users with one click, to try an index with."""
        ...


class CheckpointTower:
    """The user tower of the model ``trained``.

    UserError: it is missing, does not fit, or is written while it is read.
    ``shared`` is the lock of all towers of the process.
    """

    def __init__(self, trained: TrainedModel, shared: threading.Lock) -> None:
        self.fingerprint = trained.fingerprint()
        self._shared = shared
        with shared:
            self._encoder = _load(trained)
        self._encoder.lock = threading.Lock() if self._encoder.stands_alone else shared
        trained.require_still(self.fingerprint)
        self._encoder.warn_of_profiles("a service")
        self.interests = self._encoder.interests
        self.maxlen = self._encoder.maxlen
        vectors = self.item_vectors()
        self.items, self.dimension = len(vectors) - 1, vectors.shape[1]
        self.unit = have_unit_length(vectors)

    def vectors_of_features(self, ids: IntArray, codes: IntArray) -> FloatArray:
        """Vectors [n, D] of items ``ids`` [n] by feature ``codes`` [n, F]; ModelError: it has none.

        Those that the model does not know are made of their features alone.
        """
        with self._shared:
            return self._encoder.vectors_of_features(ids, codes)

    def item_vectors(self) -> FloatArray:
        """The table of items [items + 1, D]; row 0 is padding."""
        with self._shared:
            return self._encoder.item_vectors()

    def sample(self) -> FloatArray:
        """Interests [n, D] of users with one click, to try an index with."""
        return self._encoder.sample(self.items)


def tower_of(trained: TrainedModel, shared: threading.Lock) -> UserTower:
    """The user tower of a checkpoint, or of an export, which needs no paddle.

    UserError: it is missing, does not fit, or is written while it is read.
    ``shared`` is the lock of all towers of the process.
    """
    if isinstance(trained, ExportedModel):
        return OnnxTower(trained)
    return CheckpointTower(trained, shared)


def import_paddle() -> None:
    """Before a server starts: paddle takes the signals over when it is imported.

    MissingPackageError: it is not installed.
    """
    try:
        importlib.import_module("paddlerec_milvus.encoder")
    except ModuleNotFoundError as error:
        raise MissingPackageError.of(error) from None


def _load(trained: TrainedModel) -> Encoder:
    from paddlerec_milvus.encoder import loaded_encoder

    encoder = loaded_encoder(*trained)
    encoder.settle()
    return encoder
