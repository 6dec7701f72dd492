# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""From the ids of a request to what the tower takes, and popular items for who has no history."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from paddlerec_milvus.retrieval.base import IntArray
from paddlerec_milvus.serving.schemas import CandidatesRequest


class Asked(NamedTuple):
    """A request for B users as arrays."""

    histories: IntArray
    """[B, maxlen], the last known ids, padded with 0."""
    lengths: IntArray
    """[B]; 0: no known id."""
    exclude: list[IntArray]
    """B sorted lists of distinct known ids that must not come back."""
    unknown: list[int]
    """[B], ids that are none of the model's."""
    top_k: int
    titles: bool


def asked_by(request: CandidatesRequest, maxlen: int, items: int) -> Asked:
    """The arrays of ``request`` for a model of items 1 … ``items``."""
    users = len(request.hist_item)
    histories, lengths = np.zeros((users, maxlen), np.int64), np.zeros(users, np.int64)
    always = _known(request.exclude, items)
    exclude, unknown = [], []
    for row, history in enumerate(request.hist_item):
        known = _known(history, items)
        last = known[-maxlen:]
        histories[row, : len(last)], lengths[row] = last, len(last)
        unknown.append(len(history) - len(known))
        left_out = np.concatenate([known, always]) if request.exclude_history else always
        exclude.append(np.unique(left_out))
    return Asked(histories, lengths, exclude, unknown, request.top_k, request.titles)


def _known(ids: list[int], items: int) -> IntArray:
    array = np.array(ids, np.int64)
    return array[(array >= 1) & (array <= items)]


def popular_items(top_k: int, exclude: IntArray, items: int) -> list[int]:
    """The ``top_k`` most popular items outside ``exclude``: ids are ranks of popularity."""
    first = np.arange(1, min(items, top_k + len(exclude)) + 1)
    popular: list[int] = first[~np.isin(first, exclude)][:top_k].tolist()
    return popular
