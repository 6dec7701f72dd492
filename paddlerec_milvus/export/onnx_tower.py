# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The towers of an export, run by ONNX Runtime."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from onnxruntime import InferenceSession

from paddlerec_milvus.errors import CheckpointError, ModelError
from paddlerec_milvus.export.exported_model import ExportedModel
from paddlerec_milvus.export.manifest import (
    CODES,
    HISTORY,
    ITEM,
    ITEMS_OF_FEATURES,
    LENGTH,
    USERS,
    VECTORS,
)
from paddlerec_milvus.onnx_session import session_of
from paddlerec_milvus.sampling import have_unit_length, one_click_histories

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


class OnnxTower:
    """The user tower of the export ``exported``, and its items. Safe to use from several threads.

    CheckpointError: a file of it is missing or damaged.
    """

    def __init__(self, exported: ExportedModel) -> None:
        manifest, self._folder = exported.manifest, exported.checkpoint
        self.fingerprint, self.maxlen, self.items = manifest.digest, manifest.maxlen, manifest.items
        self._name = manifest.model
        self._users = self._session(USERS)
        self._features = None
        self._codes = np.array(manifest.feature_codes, np.int64)
        if len(self._codes):
            self._features = self._session(ITEMS_OF_FEATURES)
        vectors = self.item_vectors()
        self.dimension = vectors.shape[1]
        self.unit = have_unit_length(vectors)

    def _session(self, tower: str) -> InferenceSession:
        file = self._folder / f"{tower}.onnx"
        return session_of(file, f"{file}:", "copy the whole export again, or export anew")

    def interests(self, histories: IntArray, lengths: IntArray) -> FloatArray:
        """Interests [B, K, D] of ``histories`` [B, maxlen] (padding 0) with ``lengths`` [B]."""
        inputs = {HISTORY: histories, LENGTH: lengths.reshape(-1, 1)}
        interests: FloatArray = self._users.run(None, inputs)[0]
        return interests

    def item_vectors(self) -> FloatArray:
        """The table of items [items + 1, D], mapped from its file; row 0 is padding."""
        file = self._folder / VECTORS
        try:
            vectors: FloatArray = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{file}: cannot be read: {error}") from None
        return vectors

    def vectors_of_features(self, ids: IntArray, codes: IntArray) -> FloatArray:
        """Vectors [n, D] of items ``ids`` [n] by feature ``codes`` [n, F].

        ModelError: the model was trained without item features, a code is none of its features', or
        nothing is known of an item.
        """
        if self._features is None:
            raise ModelError(f"{self._name}: trained without item features")
        if codes.shape[1:] != self._codes.shape or ((codes < 0) | (codes >= self._codes)).any():
            raise ModelError(f"codes of item features must be below {self._codes.tolist()}, from 0")
        lost = ((ids < 1) | (ids > self.items)) & ~(codes > 0).any(axis=1)
        if lost.any():
            raise ModelError(
                f"item {ids[lost][0]} is new, and the model knows none of its features"
            )
        vectors: FloatArray = self._features.run(None, {ITEM: ids, CODES: codes})[0]
        return vectors

    def sample(self) -> FloatArray:
        """Interests [n, D] of users with one click, to try an index with."""
        interests = self.interests(*one_click_histories(self.items, self.maxlen))
        return interests.reshape(-1, interests.shape[-1])
