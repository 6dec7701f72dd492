# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Some test users with their books, their interests, and what each interest brings to the list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from paddlerec_milvus.data.catalogue import ItemDetails
from paddlerec_milvus.evaluation.interests import IntArray, Vectors, cosines, owners

if TYPE_CHECKING:  # it needs paddle
    from paddlerec_milvus.evaluation.evaluator import Evaluation

USERS = 2
LEAST_BROUGHT = 3  # unread books that every interest of a shown user brings
SHOWN_BOOKS = 4  # of an interest
SHOWN_CLICKS = 8  # the last of a history
MARK = "✓"
_TITLE, _AUTHORS = 64, 32  # characters of a line at most


class InterestView(NamedTuple):
    """One interest of a user, in items."""

    behind: list[int]
    """The clicks that it stands nearest to of all the user's interests, the last one first."""
    brought: list[int]
    """Its candidates that are not in the history, best first."""


class UserView(NamedTuple):
    """A test user as the demo shows it."""

    user: int
    history: list[int]
    """The clicks that the model sees, in time order."""
    truths: frozenset[int]
    """What the user clicked later."""
    interests: list[InterestView]
    """Those that bring most first."""
    cosine: float
    """The highest one of two interests of the user."""


def interest_views(
    interests: Vectors, history: IntArray, candidates: IntArray, vectors: Vectors, metric: str
) -> list[InterestView]:
    """The views of a user's ``interests`` [K, D], those that bring most first.

    ``history`` [L] and ``candidates`` [N] are items; each belongs to the interest that scores it
    best by ``metric`` in the item table ``vectors`` [V, D], whose row i is item i.
    """
    unread = candidates[(candidates > 0) & ~np.isin(candidates, history)]
    parts = []
    for items in (history[::-1], unread):
        owner = owners(interests[None], items[None], vectors, metric)[0]
        parts.append([items[owner == number].tolist() for number in range(len(interests))])
    views = map(InterestView, *parts)
    return sorted(views, key=lambda view: -len(view.brought))


def varied_users(evaluation: Evaluation, count: int = USERS) -> list[UserView]:
    """The ``count`` test users whose two most alike interests differ most, by the last epoch.

    Of those alone whose every interest brings some unread books: there is something to see.
    """
    queries, encoder = evaluation.queries, evaluation.encoder
    interests = encoder.interests(queries.histories, queries.lengths, queries.users)
    vectors, metric = encoder.item_vectors(), evaluation.settings.retrieval.metric
    above_diagonal = np.triu_indices(interests.shape[1], 1)
    alike = cosines(interests)[:, above_diagonal[0], above_diagonal[1]].max(axis=1, initial=-1.0)
    truths, users = evaluation.users.truth_list(), list[UserView]()
    for row in np.argsort(alike, kind="stable").tolist():
        history = queries.histories[row][: queries.lengths[row]]
        views = interest_views(interests[row], history, evaluation.lists[row], vectors, metric)
        if min(len(view.brought) for view in views) >= LEAST_BROUGHT:
            user = int(queries.users[row])
            shown = history.tolist(), frozenset(truths[row].tolist()), views, float(alike[row])
            users.append(UserView(user, *shown))
        if len(users) == count:
            break
    return users


def in_words(users: Sequence[UserView], details: Mapping[int, ItemDetails]) -> str:
    """What ``users`` have read and what each of their interests brings, a book a line."""
    blocks = []
    for one in users:
        lines = [f"Reader {one.user}, the last books first:"]
        lines += [f"    {_book(details, item)}" for item in one.history[: -SHOWN_CLICKS - 1 : -1]]
        for number, view in enumerate(one.interests, 1):
            behind = ", ".join(_title(details, item) for item in view.behind[:2])
            lines.append(f"  interest {number}" + (f", from {behind}:" if behind else ":"))
            for item in view.brought[:SHOWN_BOOKS]:
                lines.append(f"  {MARK if item in one.truths else ' '} {_book(details, item)}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _title(details: Mapping[int, ItemDetails], item: int) -> str:
    title = details[item].title if item in details else ""
    return _short(title or f"item {item}", _TITLE)


def _book(details: Mapping[int, ItemDetails], item: int) -> str:
    """``title - authors, year``, as far as they are known, with the item's number before it."""
    _, authors, year = details.get(item, ItemDetails("", "", ""))
    rest = ", ".join(filter(None, (_short(authors, _AUTHORS), year)))
    return f"{item:>5}  {_title(details, item)}" + (f" - {rest}" if rest else "")


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
