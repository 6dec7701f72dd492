# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a benchmark searches: item vectors, the interests of users, and what these clicked later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np

from paddlerec_milvus.retrieval.base import FloatArray, IntArray


class Truths(NamedTuple):
    """Held-out clicks; those of user u are ``items[indptr[u]:indptr[u + 1]]``."""

    indptr: IntArray
    """[U + 1] int64."""
    items: IntArray
    """[T] int64."""

    def take(self, rows: IntArray) -> Truths:
        """Those of some of the users, in the order of ``rows``."""
        parts = [self.items[self.indptr[row] : self.indptr[row + 1]] for row in rows]
        ends = np.cumsum([0, *map(len, parts)]).astype(np.int64)
        return Truths(ends, np.concatenate(parts) if parts else self.items[:0])


@dataclass(frozen=True)
class Workload:
    """N items and U users with K interests each, all of D dimensions."""

    name: str
    vectors: FloatArray
    """[N, D] float32."""
    ids: IntArray
    """[N] int64, distinct, from 1."""
    interests: FloatArray
    """[U, K, D] float32."""
    metric: str
    """IP, COSINE or L2."""
    truths: Truths | None = None
    """None where nobody clicked: synthetic vectors."""
    histories: Sequence[IntArray] = ()
    """U arrays of item ids, or empty."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from."""

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of SHA-256 over all that is searched and compared with."""
        digest = sha256(self.metric.encode())
        for array in (self.vectors, self.ids, self.interests, *(self.truths or ())):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    @property
    def queries(self) -> FloatArray:
        """[U * K, D]: the interests of user 0, then those of user 1 …"""
        return self.interests.reshape(-1, self.interests.shape[2])

    def take(self, rows: IntArray) -> Workload:
        """The same items, and some of the users [n] by their row."""
        return replace(
            self,
            interests=self.interests[rows],
            truths=self.truths.take(rows) if self.truths else None,
            histories=[self.histories[row] for row in rows] if self.histories else (),
        )

    def described(self) -> dict[str, Any]:
        """What a row of results says of it."""
        users, interests, dimension = self.interests.shape
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "items": len(self.ids),
            "dimension": dimension,
            "users": users,
            "interests": interests,
            "metric": self.metric,
            "norm_skew": round(norm_skew(self.vectors), 3),
            **self.about,
        }


def norm_skew(vectors: FloatArray) -> float:
    """The largest length of ``vectors`` [N, D] over their median one; 1 when normalised."""
    norms = np.linalg.norm(vectors, axis=1)
    middle = float(np.median(norms))
    return float(norms.max() / middle) if middle else float("inf")
