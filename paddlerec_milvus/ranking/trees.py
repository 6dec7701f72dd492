# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Boosted trees that correct the order of a vector model, scored by ONNX Runtime."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.onnx_session import session_of
from paddlerec_milvus.ranking.features import ALL_FEATURES, FEATURES

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

ROWS, SCORES = "features", "scores"  # the graph's input [n, F] and output [n, 1]


class TreesRanker:
    """Scores candidates by a share of the interests' score and trees over features.

    With no tree the order is that of the vector model: trees learn what to change in it. Safe to
    use from several threads.
    """

    def __init__(self, content: bytes) -> None:
        """``content`` is an ONNX graph that ``tree_training.fit_trees`` wrote.

        CheckpointError: it is none, or of other features.
        """
        name, remedy = "the trees of a ranker", "train it anew"
        self._session = session_of(content, name, remedy)
        try:
            facts = self._session.get_modelmeta().custom_metadata_map
            self._facts: dict[str, Any] = json.loads(facts["ranker"])
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{name} cannot be read: {error!r:.200}; {remedy}") from None
        if tuple(self._facts["columns"]) not in (FEATURES, ALL_FEATURES):
            raise CheckpointError("the trees of a ranker are of other features than ours")
        self.content = content

    def scores(
        self, rows: FloatArray, items: IntArray | None = None, history: IntArray | None = None
    ) -> FloatArray:
        """[n] for ``rows`` [n, F], the higher the better; trees need no ``items`` nor clicks."""
        (scores,) = self._session.run(None, {ROWS: rows})
        ranked: FloatArray = scores[:, 0]
        return ranked

    @property
    def start(self) -> float:
        """What one point of the interests' score weighs beside the trees."""
        return float(self._facts["start"])

    @property
    def features(self) -> tuple[str, ...]:
        """Those that the trees may use, of ALL_FEATURES."""
        return tuple(name for name in ALL_FEATURES if name in self._facts["importance"])

    @property
    def importance(self) -> dict[str, float]:
        """The share of all gain that each feature brought, the largest first."""
        return dict(self._facts["importance"])

    @property
    def trees(self) -> int:
        """How many trees there are."""
        return int(self._facts["trees"])
