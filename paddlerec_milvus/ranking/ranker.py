# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What every ranker does, which there are, and how one is written and read."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from paddlerec_milvus.ranking.din_ranker import DinRanker
from paddlerec_milvus.ranking.files import RANKER_FILES, RankerKind, RankingManifest
from paddlerec_milvus.ranking.trees import TreesRanker

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

SHOWN = 8  # features


class Ranker(Protocol):
    """Orders the candidates of a user. Safe to use from several threads."""

    @property
    def start(self) -> float:
        """What one point of the interests' score is worth beside what the ranker learned."""

    @property
    def features(self) -> tuple[str, ...]:
        """Those that it uses, of ALL_FEATURES."""

    def scores(self, rows: FloatArray, items: IntArray, history: IntArray) -> FloatArray:
        """[n], the higher the better, of candidates ``items`` [n] with the features ``rows`` [n, F]
        for a user with the clicks ``history`` [L], the newest last, at least one.
        """
        ...


def kind_of(ranker: Ranker) -> RankerKind:
    """Its name in manifests and on the command line."""
    return "din" if isinstance(ranker, DinRanker) else "trees"


def described(ranker: Ranker) -> str:
    """What it is, below a table of what its features gave where it knows that."""
    if isinstance(ranker, DinRanker):
        return f"DIN with {ranker.parameters:,} parameters"
    if not isinstance(ranker, TreesRanker):
        return type(ranker).__name__
    shares = list(ranker.importance.items())[:SHOWN]
    rows = [[name, f"{100 * share:.1f}"] for name, share in shares]
    table = tabulate(rows, headers=["feature", "share of gain, %"], disable_numparse=True)
    return f"{table}\n{ranker.trees} trees"


def written(ranker: Ranker) -> tuple[str, bytes]:
    """The name and the bytes of the one file that holds ``ranker``, data alone."""
    if isinstance(ranker, DinRanker):
        return RANKER_FILES["din"], ranker.content()
    if isinstance(ranker, TreesRanker):
        return RANKER_FILES["trees"], ranker.content
    raise TypeError(f"a {type(ranker).__name__} has no file")


def read_ranker(content: bytes, manifest: RankingManifest, categories: IntArray) -> Ranker:
    """From what :func:`written` gave. CheckpointError: it is not what ``manifest`` says.

    ``categories`` [V] are numbers of the items' categories, -1: none.
    """
    start, features = manifest.start, manifest.used
    if manifest.ranker == "din":
        return DinRanker.of_content(content, start, features, categories)
    return TreesRanker(content)
