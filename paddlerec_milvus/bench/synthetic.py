# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Vectors of any size, clustering and norm skew, for questions that need no model."""

from __future__ import annotations

import numpy as np

from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.retrieval.base import FloatArray


def synthetic_workload(
    *,
    items: int,
    dimension: int,
    users: int,
    interests: int,
    clusters: int,
    spread: float,
    norm_skew: float,
    metric: str,
    seed: int,
) -> Workload:
    """Items around ``clusters`` centres on the unit sphere, users with interests near some of them.

    ``spread`` is the length of the noise beside a centre's 1. Items have length 1, or with
    ``norm_skew`` above 0 lengths exp(norm_skew * z), z standard normal. Nobody clicks: no truths.
    """
    rng = np.random.default_rng(seed)
    centres = _units(rng.standard_normal((clusters, dimension), dtype=np.float32))
    vectors = _around(centres[rng.integers(clusters, size=items)], spread, rng)
    if norm_skew:
        lengths = np.exp(norm_skew * rng.standard_normal(items))
        vectors *= lengths[:, None].astype(np.float32)
    wanted = centres[rng.integers(clusters, size=users * interests)]
    asked = _around(wanted, spread, rng).reshape(users, interests, dimension)
    return Workload(
        name=f"synthetic {items:,} x {dimension}",
        vectors=vectors,
        ids=np.arange(1, items + 1, dtype=np.int64),
        interests=asked,
        metric=metric,
        about={"clusters": clusters, "spread": spread, "planted_skew": norm_skew},
    )


def _units(vectors: FloatArray) -> FloatArray:
    lengths: FloatArray = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


def _around(centres: FloatArray, spread: float, rng: np.random.Generator) -> FloatArray:
    """One unit vector beside each of ``centres`` [n, D]."""
    noise = rng.standard_normal(centres.shape, dtype=np.float32)
    return _units(centres + noise * np.float32(spread / np.sqrt(centres.shape[1])))
