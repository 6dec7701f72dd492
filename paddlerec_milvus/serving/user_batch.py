# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""From the ids of a request to what the tower takes: a batch of users as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import chain
from typing import NamedTuple

import numpy as np

from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.data.histories import pad_histories
from paddlerec_milvus.retrieval.base import IntArray
from paddlerec_milvus.serving.schemas import CandidatesRequest
from paddlerec_milvus.serving.validation import InvalidRequestError, problem


class UserBatch(NamedTuple):
    """The B users of a request."""

    request: CandidatesRequest
    histories: IntArray
    """[B, maxlen], the last known ids, padded with 0."""
    lengths: IntArray
    """[B]; 0: no known id."""
    rows: IntArray
    """[n], the users with clicks enough for the model."""
    exclude: list[Set[int]]
    """B sets of ids that must not come back; of items that the model does not know, too."""
    unknown: list[int]
    """[B], ids that are none of the model's."""


class ExcludedItems(Set[int]):
    """``shared`` and a history; the former, maybe long, are those of all users of a request."""

    def __init__(self, shared: frozenset[int], own: frozenset[int]) -> None:
        self._shared, self._own = shared, own - shared

    def __contains__(self, item: object) -> bool:
        """Whether the item must not come back."""
        return item in self._own or item in self._shared

    def __iter__(self) -> Iterator[int]:
        """All ids, the shared ones first."""
        return chain(self._shared, self._own)

    def __len__(self) -> int:
        """The number of different ids."""
        return len(self._shared) + len(self._own)

    @classmethod
    def _from_iterable(cls, items: Iterable[int]) -> Set[int]:  # type: ignore[override]
        return frozenset(items)


def user_batch(
    request: CandidatesRequest, maxlen: int, catalogue: Catalogue, least_history: int = 1
) -> UserBatch:
    """The arrays of ``request`` for a model of the items of ``catalogue``.

    Users with fewer known clicks than ``least_history`` are not for the model.
    InvalidRequestError: the request needs categories, and there are none.
    """
    _check_categories(request, catalogue)
    shared = frozenset(request.exclude)
    exclude: list[Set[int]] = []
    known_histories, unknown, rows = [], [], []
    for row, history in enumerate(request.hist_item):
        known = [item for item in history if 1 <= item <= catalogue.total]
        known_histories.append(known)
        unknown.append(len(history) - len(known))
        exclude.append(_excluded(shared, history) if request.exclude_history else shared)
        if len(known) >= max(1, least_history):
            rows.append(row)
    histories, lengths = pad_histories(known_histories, maxlen)
    return UserBatch(request, histories, lengths, np.array(rows, np.int64), exclude, unknown)


def _excluded(shared: frozenset[int], history: Sequence[int]) -> Set[int]:
    own = frozenset(history)
    return ExcludedItems(shared, own) if shared else own  # a plain set answers faster


def _check_categories(request: CandidatesRequest, catalogue: Catalogue) -> None:
    if catalogue.categories:
        return
    text = (
        "no item has a category here: leave this out, or prepare the data with titles and "
        "categories (items.csv)"
    )
    needing = {"filter": request.filter is not None, "diversity": request.diversity > 0}
    if any(needing.values()):
        fields = [name for name, is_needing in needing.items() if is_needing]
        raise InvalidRequestError([problem(("body", name), text) for name in fields])
