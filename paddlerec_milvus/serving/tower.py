# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The model of one checkpoint, in a thread of its own.

A model folder's code runs with its folder as working directory and on ``sys.path``, which belong to
the whole process: so only one thread ever runs it.
"""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paddlerec_milvus.checkpoint import PREFIX
from paddlerec_milvus.config import Settings
from paddlerec_milvus.device import use_device
from paddlerec_milvus.encoder import Encoder
from paddlerec_milvus.evaluation.statistics import spread
from paddlerec_milvus.retrieval.base import FloatArray, IntArray
from paddlerec_milvus.zoo import ModelFolder

SAMPLED = 8  # vectors that are compared with those in Milvus


class Items(NamedTuple):
    """What Milvus has to hold for this checkpoint."""

    total: int
    """Items are 1 … total."""
    sample_ids: IntArray
    sample: FloatArray
    """Their vectors [n, D]."""


class Tower:
    """Histories to interests by one checkpoint. UserError: it is missing or does not fit."""

    def __init__(self, settings: Settings, checkpoint: Path) -> None:
        self._pool = ThreadPoolExecutor(1, "tower")
        try:
            self._encoder = self._pool.submit(_load, settings, checkpoint).result()
            vectors = self.item_vectors()
        except BaseException:
            self._pool.shutdown()
            raise
        sample_ids = 1 + spread(len(vectors) - 1, SAMPLED)
        self.maxlen = self._encoder.maxlen
        self.items = Items(len(vectors) - 1, sample_ids, vectors[sample_ids])
        content = (checkpoint / f"{PREFIX}.pdparams").read_bytes()
        self.fingerprint = hashlib.sha256(content).hexdigest()[:16]

    async def interests(self, histories: IntArray, lengths: IntArray) -> FloatArray:
        """Interests [B, K, D] of ``histories`` [B, maxlen] (padding 0) with ``lengths`` [B]."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._encoder.interests, histories, lengths)

    def item_vectors(self) -> FloatArray:
        """[total + 1, D]; row 0 is padding. Waits for the tower's thread."""
        return self._pool.submit(self._encoder.item_vectors).result()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(cancel_futures=True)


def _load(settings: Settings, checkpoint: Path) -> Encoder:
    use_device(settings)
    encoder = Encoder(settings, ModelFolder(settings.model_dir))
    encoder.load(checkpoint)
    encoder.interests(np.ones((1, encoder.maxlen), np.int64), np.ones(1, np.int64))  # warm
    return encoder
