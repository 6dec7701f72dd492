# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""From the ids of a request to what the tower takes: a batch of users as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import chain
from typing import Any, NamedTuple, Protocol

import numpy as np

from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.data.histories import pad_histories
from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.retrieval.base import IntArray
from paddlerec_milvus.serving.item_ids import ItemIds, TextIds
from paddlerec_milvus.serving.schemas import CandidatesRequest
from paddlerec_milvus.serving.validation import InvalidRequestError, problem


class BatchIds(Protocol):
    """The ids of a request: as the log has them, or as text."""

    def numbers(self, own_ids: Sequence[OwnId]) -> list[int]:
        """A number for each id, whether the model knows it or not; 0 for one that no item has."""
        ...

    def own_ids(self, numbers: Iterable[int]) -> list[OwnId | None]:
        """The id behind each number; None: nobody knows it."""
        ...


class UserBatch(NamedTuple):
    """The B users of a request."""

    request: CandidatesRequest[Any]
    ids: BatchIds
    """By which the request's ids were read, and its answer's are written."""
    histories: IntArray
    """[B, maxlen], the last known ids, padded with 0."""
    lengths: IntArray
    """[B]; 0: no known id."""
    rows: IntArray
    """[n], the users with clicks enough for the model."""
    exclude: list[Set[int]]
    """B sets of numbers that must not come back; of items that the model does not know, too."""
    unknown: list[list[OwnId]]
    """[B], ids that are none of the model's."""
    unresolved: list[int]
    """Numbers in histories that may be items which were added since the model was made."""


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
    request: CandidatesRequest[Any],
    maxlen: int,
    catalogue: Catalogue,
    item_ids: ItemIds,
    least_history: int = 1,
    *,
    as_text: bool = False,
) -> UserBatch:
    """The arrays of ``request`` for a model of the items of ``catalogue``, ids by ``item_ids``.

    ``as_text``: ids that are ints are written as strings, in the answer, too.

    Users with fewer known clicks than ``least_history`` are not for the model.
    InvalidRequestError: the request needs categories, and there are none.
    """
    _check_categories(request, catalogue)
    is_text = as_text and item_ids.kind == "int"
    ids: BatchIds = TextIds(item_ids) if is_text else item_ids
    shared = frozenset(ids.numbers(request.exclude))
    exclude: list[Set[int]] = []
    known_histories, unknown, rows, strangers = [], [], [], set[int]()
    for row, history in enumerate(request.hist_item):
        numbers = ids.numbers(history)
        known = item_ids.known(numbers)
        if 0 in known:
            unknown.append([own for own, number in zip(history, known, strict=True) if not number])
            strangers |= {n for n, number in zip(numbers, known, strict=True) if not number}
            known = [number for number in known if number]
        else:
            unknown.append([])
        known_histories.append(known)
        exclude.append(_excluded(shared, numbers) if request.exclude_history else shared)
        if len(known) >= max(1, least_history):
            rows.append(row)
    histories, lengths = pad_histories(known_histories, maxlen)
    return UserBatch(
        request,
        ids,
        histories,
        lengths,
        np.array(rows, np.int64),
        exclude,
        unknown,
        item_ids.unresolved(strangers) if strangers else [],
    )


def _excluded(shared: frozenset[int], history: Sequence[int]) -> Set[int]:
    own = frozenset(history)
    return ExcludedItems(shared, own) if shared else own  # a plain set answers faster


def _check_categories(request: CandidatesRequest[Any], catalogue: Catalogue) -> None:
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
