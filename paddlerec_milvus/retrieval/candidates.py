# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""From users' interests to their candidates: search, then merge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.base import LARGEST_K, Retriever, checked_k
from paddlerec_milvus.retrieval.merge import Candidates, merge_interests


def search_users(
    retriever: Retriever,
    interests: ArrayLike,
    top_n: int,
    exclude: Sequence[ArrayLike] | None = None,
) -> Candidates:
    """The ``top_n`` candidates of each user: each interest's neighbours, merged.

    ``interests`` [B, K, D] float32. ``exclude`` holds B lists of item ids (say, each user's
    history) that must not come back. They are searched for all the same, ``top_n`` + the longest
    list, at most 16,384 (Milvus' limit): a longer list may leave its user with fewer candidates.
    Raises SettingsError for a shape or ``top_n`` that cannot be used, and the retriever's errors.
    """
    checked_k(top_n)
    vectors = np.asarray(interests, np.float32)
    if vectors.ndim != 3:
        raise SettingsError(f"interests have the shape {list(vectors.shape)}, expected [B, K, D]")
    users, count, dimension = vectors.shape
    longest = max((np.size(each) for each in exclude), default=0) if exclude is not None else 0
    k = min(top_n + longest, LARGEST_K)
    found = retriever.search(vectors.reshape(users * count, dimension), k)
    shape = (users, count, k)
    return merge_interests(found.ids.reshape(shape), found.scores.reshape(shape), top_n, exclude)
