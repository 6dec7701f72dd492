# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The model of one checkpoint.

A model folder's code is loaded with its folder as working directory and on ``sys.path``, which
belong to the whole process: so the towers of all checkpoints share one lock for that. What answers
requests has a lock of its own, and goes on while another checkpoint is loaded.
"""

from __future__ import annotations

import threading

import numpy as np

from paddlerec_milvus.device import use_device
from paddlerec_milvus.encoder import Encoder
from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.evaluation.statistics import spread
from paddlerec_milvus.retrieval.base import FloatArray, IntArray
from paddlerec_milvus.serving.model_registry import Found
from paddlerec_milvus.zoo import ModelFolder

SAMPLED = 64  # users of one click, whose interests try an index out


class Tower:
    """Histories to interests by the model ``found``.

    UserError: it is missing, does not fit, or is written while it is read.
    ``shared`` is the lock of all towers of the process. Safe to use from several threads.
    """

    def __init__(self, found: Found, shared: threading.Lock) -> None:
        self.fingerprint = found.fingerprint()
        self._shared = shared
        with shared:
            self._encoder = _load(found)
        self._calls = threading.Lock() if self._encoder.stands_alone else shared
        if found.fingerprint() != self.fingerprint:
            raise CheckpointError(f"{found.checkpoint}: was written while it was read: try again")
        self.maxlen = self._encoder.maxlen
        vectors = self.item_vectors()
        self.items, self.dimension = len(vectors) - 1, vectors.shape[1]
        """Items are 1 … items, of this many numbers."""
        lengths = np.linalg.norm(vectors[1 + spread(self.items, SAMPLED)], axis=1)
        self.unit = bool(np.allclose(lengths, 1, atol=1e-3))
        """Whether vectors have length 1."""

    def interests(self, histories: IntArray, lengths: IntArray) -> FloatArray:
        """Interests [B, K, D] of ``histories`` [B, maxlen] (padding 0) with ``lengths`` [B]."""
        with self._calls:
            return self._encoder.interests(histories, lengths)

    def vectors_of_features(self, ids: IntArray, codes: IntArray) -> FloatArray:
        """Vectors [n, D] of items ``ids`` [n] by feature ``codes`` [n, F]; ModelError: it has none.

        Those that the model does not know are made of their features alone.
        """
        with self._shared:
            return self._encoder.vectors_of_features(ids, codes)

    def item_vectors(self) -> FloatArray:
        """[items + 1, D]; row 0 is padding."""
        with self._shared:
            return self._encoder.item_vectors()

    def sample(self) -> FloatArray:
        """Interests [n, D] of users with one click each, to try an index with."""
        clicks = 1 + spread(self.items, SAMPLED)
        histories = np.zeros((len(clicks), self.maxlen), np.int64)
        histories[:, 0] = clicks
        found = self.interests(histories, np.ones(len(clicks), np.int64))
        return found.reshape(-1, self.dimension)


def _load(found: Found) -> Encoder:
    use_device(found.settings)
    encoder = Encoder(found.settings, ModelFolder(found.settings.model_dir))
    encoder.load(found.checkpoint)
    encoder.settle()
    return encoder
