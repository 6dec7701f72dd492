# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Items of a model that were deleted since: lists of popular items leave out those it knows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Protocol, runtime_checkable

from paddlerec_milvus.errors import UserError
from paddlerec_milvus.retrieval.base import IntArray
from paddlerec_milvus.retrieval.candidates import popular_items

logger = logging.getLogger(__name__)

MOST_ROUNDS = 10  # the n-th checks n times as many popular items
FIRST_ITEMS = 500  # stored popular ones that are sought as soon as a version serves


@runtime_checkable
class ChangeableItems(Protocol):
    """A retriever whose items may be changed or deleted one by one."""

    def categories_of(
        self, ids: Sequence[int], consistency: str | None = None
    ) -> Mapping[int, str]:
        """The categories of those of ``ids`` that a search sees, "" for those that have none."""
        ...


class HiddenItems:
    """The deleted items that are known: by calls here, and by what the retriever said when asked.

    They stay known while Milvus is away. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self.known: frozenset[int] = frozenset()
        self._retriever: ChangeableItems | None = None
        self._version: object = None
        self._lock = threading.Lock()

    def follow(self, retriever: object, version: object) -> None:
        """Ask ``retriever`` from now on; what is known of another ``version`` is forgotten."""
        with self._lock:
            self._retriever = retriever if isinstance(retriever, ChangeableItems) else None
            if version != self._version:
                self.known = frozenset()
            self._version = version

    def changed(self, stored: Iterable[int] = (), deleted: Iterable[int] = ()) -> None:
        """These items were ``stored``, or ``deleted``."""
        with self._lock:
            self.known = self.known.difference(stored) | frozenset(deleted)

    def _among(self, ids: Set[int], consistency: str) -> set[int]:
        """Those of ``ids`` that are deleted, as the retriever says; its errors."""
        if (retriever := self._retriever) is None or not ids:
            return set()
        stored = retriever.categories_of(sorted(ids), consistency).keys()
        if retriever is self._retriever:
            self.changed(stored, ids - stored)
        return set(ids - stored)

    @property
    def can_tell(self) -> bool:
        """Whether there is a retriever to ask."""
        return self._retriever is not None

    def check_popular(
        self,
        top_k: int,
        excluded: Sequence[Set[int]],
        items: Sequence[int] | IntArray,
        consistency: str,
    ) -> None:
        """Find out which of the first of ``items`` are deleted, or stored again.

        As many as lists of ``top_k`` show, one for each of ``excluded``. Where the retriever fails,
        nothing is known of them for now.
        """
        checked, gone = set[int](), set[int]()
        try:
            for more in range(1, MOST_ROUNDS + 1):
                front = {
                    item
                    for one in excluded
                    for left_out in (one | gone, one | gone | self.known)
                    for item in popular_items(more * top_k, left_out, items)
                }
                fresh = self._among(front - checked, consistency)
                if not fresh:
                    return
                checked, gone = checked | front, gone | fresh
        except UserError as error:
            logger.warning("popular items were not checked: %s", type(error).__name__)
