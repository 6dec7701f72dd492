# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""From the ids of a request to what the tower takes, and popular items for who has no history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import chain
from typing import NamedTuple

import numpy as np

from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.retrieval.base import IntArray
from paddlerec_milvus.serving.schemas import CandidatesRequest
from paddlerec_milvus.serving.validation import InvalidRequestError, problem


class Asked(NamedTuple):
    """A request for B users as arrays."""

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


class Excluded(Set[int]):
    """``always`` and a history; the former, maybe long, are those of all users of a request."""

    def __init__(self, always: frozenset[int], own: frozenset[int]) -> None:
        self._always, self._own = always, own - always

    def __contains__(self, item: object) -> bool:
        """Whether the item must not come back."""
        return item in self._own or item in self._always

    def __iter__(self) -> Iterator[int]:
        """All ids."""
        return chain(self._always, self._own)

    def __len__(self) -> int:
        """How many."""
        return len(self._always) + len(self._own)

    @classmethod
    def _from_iterable(cls, items: Iterable[int]) -> Set[int]:  # type: ignore[override]
        return frozenset(items)


def asked_by(
    request: CandidatesRequest, maxlen: int, catalogue: Catalogue, least_history: int = 1
) -> Asked:
    """The arrays of ``request`` for a model of the items of ``catalogue``.

    Users with fewer known clicks than ``least_history`` are not for the model.
    InvalidRequestError: categories are asked for, and there are none.
    """
    _check_categories(request, catalogue)
    users, items = len(request.hist_item), catalogue.total
    histories, lengths = np.zeros((users, maxlen), np.int64), np.zeros(users, np.int64)
    always = frozenset(request.exclude)
    exclude: list[Set[int]] = []
    unknown, rows = [], []
    for row, history in enumerate(request.hist_item):
        known = [item for item in history if 1 <= item <= items]
        last = known[-maxlen:]
        histories[row, : len(last)], lengths[row] = last, len(last)
        unknown.append(len(history) - len(known))
        exclude.append(_excluded(always, history) if request.exclude_history else always)
        if len(known) >= max(1, least_history):
            rows.append(row)
    return Asked(request, histories, lengths, np.array(rows, np.int64), exclude, unknown)


def _excluded(always: frozenset[int], history: Sequence[int]) -> Set[int]:
    own = frozenset(history)
    return Excluded(always, own) if always else own  # to ask the former takes longer


def _check_categories(request: CandidatesRequest, catalogue: Catalogue) -> None:
    asked = {"filter": request.filter is not None, "diversity": request.diversity > 0}
    text = (
        "no item has a category here: leave this out, or prepare the data with titles and "
        "categories (items.csv)"
    )
    if not catalogue.categories and any(asked.values()):
        fields = [name for name, is_asked in asked.items() if is_asked]
        raise InvalidRequestError([problem(("body", name), text) for name in fields])


def popular_items(top_k: int, exclude: Set[int], items: Sequence[int] | IntArray) -> list[int]:
    """The first ``top_k`` of ``items``, the most popular first, that are not in ``exclude``."""
    first = map(int, items[: top_k + len(exclude)])
    return [item for item in first if item not in exclude][:top_k]
