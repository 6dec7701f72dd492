# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The categories that stored items have: the catalogue's, and those of items that were put since.

Milvus takes seconds to read an expression of a thousand long names, so it is sent none that no item
has, however many a caller names.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.errors import UserError
from paddlerec_milvus.retrieval.base import IntArray
from paddlerec_milvus.retrieval.connection import CATEGORY_BYTES

logger = logging.getLogger(__name__)

SEEN_SECONDS = 2.0  # a category that another process stores is known here after so long


@runtime_checkable
class CategorisedItems(Protocol):
    """A retriever that tells the categories of what it stores."""

    def other_categories(self, known: Collection[str], consistency: str) -> set[str]:
        """The categories of stored items that are not ``known``."""
        ...


class ItemCategories:
    """The categories of the items of ``catalogue``, and of those stored beside them.

    Safe to use from several threads.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._items = catalogue
        self._catalogue = frozenset(catalogue.categories.names)
        self._others = frozenset[str]()
        self._changed: dict[int, str] = {}  # of the catalogue's items
        self._retriever: CategorisedItems | None = None
        self._is_complete = True
        self._looked_up_at = -SEEN_SECONDS
        self._asking, self._lock = threading.Lock(), threading.Lock()

    def follow(self, retriever: object) -> None:
        """Look other categories up in ``retriever`` from now on; those of another are forgotten."""
        with self._lock:
            self._retriever = retriever if isinstance(retriever, CategorisedItems) else None
            self._is_complete = self._retriever is None
            self._others, self._looked_up_at = frozenset(), -SEEN_SECONDS
            self._changed = {}

    def stored(self, names: Sequence[str]) -> tuple[str, ...]:
        """Those of ``names`` that items have; all that one may have, where nobody has told yet."""
        if self._is_complete:
            return tuple(name for name in names if self._is_known(name))
        return tuple(name for name in names if len(name.encode()) <= CATEGORY_BYTES)

    def _is_known(self, name: str) -> bool:
        return name in self._catalogue or name in self._others

    def are_unresolved(self, names: Iterable[str], *, strong: bool) -> bool:
        """Whether the retriever may know of items with those of ``names`` that are unknown here.

        It is asked again after some seconds; for a ``strong`` search at once.
        """
        if self._retriever is None or all(map(self._is_known, names)):
            return False
        return strong or time.monotonic() >= self._looked_up_at + SEEN_SECONDS

    def resolve(self, *, strong: bool) -> None:
        """Ask the retriever for the categories that are unknown here."""
        with self._asking:  # callers come at the same time, and one answer is for all
            began, retriever = time.monotonic(), self._retriever
            if retriever is None or not (strong or began >= self._looked_up_at + SEEN_SECONDS):
                return
            self._looked_up_at = began
            known = self._catalogue | self._others
            try:
                fresh = retriever.other_categories(known, "Strong" if strong else "Bounded")
            except UserError as error:
                logger.warning("categories were not looked up: %s", type(error).__name__)
                return
            with self._lock:
                if retriever is self._retriever:
                    self._others |= fresh
                    self._is_complete = True

    def changed(self, by_item: Mapping[int, str]) -> None:
        """Items were stored here with these categories; empty: with none."""
        names, total = self._catalogue, self._items.total
        with self._lock:
            self._others |= {name for name in by_item.values() if name and name not in names}
            of_model = {item: name for item, name in by_item.items() if item <= total}
            self._changed = {**self._changed, **of_model}

    def items_of(self, names: Collection[str]) -> IntArray:
        """The items of the catalogue that have one of ``names`` now, as far as is known here.

        What another process has changed since is not known.
        """
        items, changed = self._items.items_of(names), self._changed
        if not changed:
            return items
        unchanged = items[~np.isin(items, list(changed))]
        fresh = [item for item, name in changed.items() if name in names]
        return np.concatenate([unchanged, np.array(fresh, np.int64)])
