# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A click log from a seed, of any size, in which a multi-interest model has something to find.

Items belong to categories; popularity falls as a power law, among categories and inside each. A
user has 2 to 6 planted interests, which are categories, and clicks in sessions of one interest
each; one click in ten is a stray one in a category drawn by popularity. Popularity alone sees
none of this, and one vector a user cannot be near to several categories at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from paddlerec_milvus.data.log import Ints
from paddlerec_milvus.data.raw_log import RawLog
from paddlerec_milvus.errors import SettingsError

MIN_CLICKS = 5  # of every user and every item, so that the filter drops nothing
_MIN_INTERESTS, _MAX_INTERESTS = 2, 6
_ITEMS_PER_CATEGORY = 50
_CATEGORY_EXPONENT = 0.5
_ITEM_EXPONENT = 0.8
_NEW_SESSION = 0.3  # chance that a click opens a new session: 3.3 clicks a session
_STRAY = 0.1
_LENGTH_SPREAD = 0.7  # sigma of the log of a user's clicks
_REPAIRS = 4


def synthetic_log(users: int, items: int, clicks: int, seed: int) -> RawLog:
    """Draw a log of exactly ``clicks`` clicks; every user has at least 5, and every item too.

    (Some items have fewer where clicks are hardly five times the items, or categories are tiny.)

    A user seldom clicks an item twice: repeats are dealt again, but counts are kept, so a long
    history inside a small category keeps a few. User ids are 0 … U-1, item ids 1 … I in the
    order of their categories.

    Raises:
        SettingsError: a size is too small to hold the interests, or to give 5 clicks to all.
    """
    if min(users, items) < 1 or items < 2 * _MAX_INTERESTS:
        raise SettingsError(
            f"--users {users} --items {items}: expected users >= 1, items >= {2 * _MAX_INTERESTS}"
        )
    if clicks < MIN_CLICKS * max(users, items):
        raise SettingsError(
            f"--clicks {clicks} is too few for {users} users and {items} items: expected at least "
            f"{MIN_CLICKS * max(users, items)}, {MIN_CLICKS} for each user and each item"
        )
    rng = np.random.default_rng(seed)
    lengths = MIN_CLICKS + rng.multinomial(
        clicks - MIN_CLICKS * users, _shares(rng.lognormal(0.0, _LENGTH_SPREAD, users))
    )
    user_rows = np.repeat(np.arange(users), lengths)
    categories = max(_MAX_INTERESTS, items // _ITEMS_PER_CATEGORY)
    slots = _category_of_clicks(rng, user_rows, lengths, categories)
    category_of_item = _category_of_items(np.bincount(slots, minlength=categories), items)
    item_rows = _items_of_clicks(rng, user_rows, slots, category_of_item)
    return RawLog(
        users=user_rows,
        items=item_rows,
        user_ids=pl.Series(np.arange(users)),
        item_ids=pl.Series(np.arange(1, items + 1)),
        titles=_titles(category_of_item),
    )


def _shares(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(weights / weights.sum())


def _power_law(size: int, exponent: float) -> npt.NDArray[np.float64]:
    return _shares(np.arange(1, size + 1, dtype=np.float64) ** -exponent)


def _category_of_clicks(
    rng: np.random.Generator, user_rows: Ints, lengths: Ints, categories: int
) -> Ints:
    """The category of each click [n] in time order: sessions of planted interests, some strays."""
    clicks = len(user_rows)
    cumulative = np.cumsum(_power_law(categories, _CATEGORY_EXPONENT))
    interests = _distinct(rng, cumulative, len(lengths))  # [U, 6]
    counts = rng.integers(_MIN_INTERESTS, _MAX_INTERESTS + 1, len(lengths))  # [U]
    opens = rng.random(clicks) < _NEW_SESSION
    opens[np.cumsum(lengths) - lengths] = True
    session = np.cumsum(opens) - 1  # [n]
    first = np.flatnonzero(opens)  # [sessions]
    owner = user_rows[first]
    chosen = (rng.random(len(first)) * counts[owner]).astype(np.int64)
    slots: Ints = interests[owner, chosen][session]
    stray = rng.random(clicks) < _STRAY
    slots[stray] = _draw(rng, cumulative, int(np.count_nonzero(stray)))
    return slots


def _draw(
    rng: np.random.Generator, cumulative: npt.NDArray[np.float64], size: int | tuple[int, ...]
) -> Ints:
    rows = np.searchsorted(cumulative, rng.random(size), side="right")
    drawn: Ints = np.minimum(rows, len(cumulative) - 1).astype(np.int64)
    return drawn


def _distinct(rng: np.random.Generator, cumulative: npt.NDArray[np.float64], users: int) -> Ints:
    """Six distinct categories a user, [U, 6], drawn again where two are the same."""
    interests = _draw(rng, cumulative, (users, _MAX_INTERESTS))
    pending = np.arange(users)
    while len(pending):
        ordered = np.sort(interests[pending], axis=1)
        pending = pending[(ordered[:, 1:] == ordered[:, :-1]).any(axis=1)]
        interests[pending] = _draw(rng, cumulative, (len(pending), _MAX_INTERESTS))
    return interests


def _category_of_items(demand: Ints, items: int) -> Ints:
    """Share items among categories by their clicks, [I] ascending, at least one where any is."""
    sizes = np.maximum(demand * items // demand.sum(), demand > 0)
    for _ in range(int(sizes.sum()) - items):  # a tiny catalogue: the large ones give way
        sizes[np.argmax(sizes)] -= 1
    for _ in range(items - int(sizes.sum())):  # fewer than there are categories
        sizes[np.argmax(demand - MIN_CLICKS * sizes)] += 1
    return np.repeat(np.arange(len(demand)), sizes)


def _items_of_clicks(
    rng: np.random.Generator, user_rows: Ints, slots: Ints, category_of_item: Ints
) -> Ints:
    """Deal items to clicks [n]: each category's clicks get its items, as often as planned."""
    order = _shuffled_by(rng, slots)
    dealt = _planned_items(rng, np.bincount(slots), category_of_item)
    grouped = slots[order]
    for _ in range(_REPAIRS):
        repeats = _repeats(user_rows[order], dealt, len(category_of_item))
        if not len(repeats):
            break
        _swap_within(rng, dealt, repeats, grouped)
    items = np.empty(len(slots), np.int64)
    items[order] = dealt
    return items


def _shuffled_by(rng: np.random.Generator, groups: Ints) -> Ints:
    """An order [n] that sorts ``groups`` and is random inside each."""
    # stable: an unstable sort breaks ties differently from one processor to the next
    keys = (groups << 32) | rng.integers(0, 1 << 32, len(groups))
    return np.argsort(keys, kind="stable")


def _planned_items(rng: np.random.Generator, demand: Ints, category_of_item: Ints) -> Ints:
    """Item rows [n], category after category, each item as often as it will be clicked."""
    sizes = np.bincount(category_of_item, minlength=len(demand))
    planned = []
    first = 0
    for clicks, size in zip(demand.tolist(), sizes.tolist(), strict=True):
        if not clicks:
            continue
        at_least = min(MIN_CLICKS, clicks // size)
        more = rng.multinomial(clicks - at_least * size, _power_law(size, _ITEM_EXPONENT))
        planned.append(np.repeat(np.arange(first, first + size), at_least + more))
        first += size
    return np.concatenate(planned)


def _repeats(users: Ints, items: Ints, item_count: int) -> Ints:
    """Positions of clicks whose user has the same item at another, all but one of each."""
    pairs = users * item_count + items
    order = np.argsort(pairs, kind="stable")
    ordered = pairs[order]
    repeats: Ints = order[1:][ordered[1:] == ordered[:-1]]
    return repeats


def _swap_within(rng: np.random.Generator, items: Ints, positions: Ints, groups: Ints) -> None:
    """Swap each position's item with that of a random one in its group; counts stay."""
    bounds = (
        np.searchsorted(groups, groups[positions]),
        np.searchsorted(groups, groups[positions], side="right"),
    )
    partners = bounds[0] + (rng.random(len(positions)) * (bounds[1] - bounds[0])).astype(np.int64)
    # A position taking part in two swaps would lose an item: the first swap of each one only.
    both = np.concatenate([positions, partners])
    _, owner = np.unique(both, return_index=True)
    first = np.zeros(len(both), bool)
    first[owner] = True
    free = first[: len(positions)] & first[len(positions) :]
    left, right = positions[free], partners[free]
    items[left], items[right] = items[right].copy(), items[left].copy()


def _titles(category_of_item: Ints) -> pl.DataFrame:
    """``Category 12, item 7`` for each item row [I]."""
    starts = np.searchsorted(category_of_item, category_of_item)
    place = np.arange(len(category_of_item)) - starts + 1
    frame = pl.DataFrame({"row": place, "category": category_of_item + 1})
    category = pl.format("Category {}", "category")
    return frame.select(
        source_id=pl.int_range(1, pl.len() + 1).cast(pl.String),
        title=pl.format("{}, item {}", category, "row"),
        category=category,
    )
