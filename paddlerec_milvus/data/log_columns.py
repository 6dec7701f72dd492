# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Which column of a log is the user, the item, the time: by name, or by what stands in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from paddlerec_milvus.data.log_times import is_date, is_epoch
from paddlerec_milvus.errors import DataError, SettingsError, nearest

# Known names, compared in lower case without "_" and "-"; the first that is there counts, so
# parent_asin is the product where a variant's asin is there too.
_NAMES = {
    "user": ("uid", "user", "userid", "reviewerid", "visitorid", "customerid"),
    "item": (
        *("item", "itemid", "iid", "parentasin", "asin", "movieid", "bookid", "productid"),
        *("trackid", "songid", "locationid", "venueid"),
    ),
    "time": (
        *("time", "timestamp", "ts", "order", "unixreviewtime", "unixtime", "eventtime"),
        *("datetime", "date", "checkintime"),
    ),
    "kind": ("event", "eventtype", "kind", "action", "behavior", "behaviour", "behaviortype"),
    "rating": ("rating", "ratings", "overall", "score", "stars"),
}
_MOST_STARS = 10
_REMEDY = "name them: --columns user=1,item=2,time=3 (numbers from 1, or names of the header)"
_AMAZON_USER, _AMAZON_ITEM = re.compile(r"A[0-9A-Z]{10,27}"), re.compile(r"[B0-9][0-9A-Z]{9}")

Rows = Sequence[Sequence[str]]


def known_columns(names: Sequence[str]) -> dict[str, int]:
    """Position of each role's column that has a known name; ``user_id:token`` is user_id."""
    plain = [
        re.sub(r":(token|float|token_seq|float_seq)$", "", name.strip().lower())
        .replace("_", "")
        .replace("-", "")
        for name in names
    ]
    positions = {}
    for role, synonyms in _NAMES.items():
        hits = [plain.index(synonym) for synonym in synonyms if synonym in plain]
        if hits:
            positions[role] = hits[0]
    return positions


def named_columns(names: Sequence[str], chosen: Mapping[str, str], place: str) -> dict[str, int]:
    """Positions by the names of a header; ``chosen`` ones first, then the known ones.

    Raises:
        SettingsError: a chosen column is not there; it names the nearest.
        DataError: no column for user or item.
    """
    plain = [name.strip() for name in names]
    positions = {}
    for role, name in chosen.items():
        bare = [column.partition(":")[0] for column in plain]
        if name in plain or name in bare:
            positions[role] = plain.index(name) if name in plain else bare.index(name)
        elif name.isdecimal() and 1 <= int(name) <= len(names):
            positions[role] = int(name) - 1
        else:
            raise SettingsError(
                f"{place}: no column '{name}' for {role} among {_shown(plain)}"
                f"{nearest(name, plain)}; name one of these with --columns"
            )
    for role, position in known_columns(names).items():
        if role not in positions and position not in positions.values():
            positions[role] = position
    missing = [role for role in ("user", "item") if role not in positions]
    if missing:
        raise DataError(
            f"{place}: no column for {', '.join(missing)} among {_shown(plain)}; name the columns: "
            f"--columns user=…,item=…,time=…"
        )
    return positions


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(names)
    return shown if len(shown) <= 200 else shown[:200] + " …"


def numbered_columns(width: int, chosen: Mapping[str, str], place: str) -> dict[str, int]:
    """Positions by the numbers from 1 of ``chosen``, for a log without a header.

    Raises:
        SettingsError: not a number of one of the ``width`` columns, or no user or item.
    """
    positions = {}
    for role, name in chosen.items():
        if not name.isdecimal() or not 1 <= int(name) <= width:
            raise SettingsError(
                f"{place}: no column '{name}' for {role}: the log has no header that names it, so "
                f"its columns are numbers, 1 to {width}"
            )
        positions[role] = int(name) - 1
    missing = [role for role in ("user", "item") if role not in positions]
    if missing:
        raise SettingsError(f"{place}: --columns lacks {', '.join(missing)}; {_REMEDY}")
    return positions


def columns_by_content(rows: Rows, place: str) -> tuple[dict[str, int], list[str]]:
    """Positions in a log without a header, by its first ``rows``, and what is doubtful about them.

    Two columns are user and item, three are user, item and time. Of four, one is a rating and one
    a time (MovieLens, Amazon); of five, two are a place's latitude and longitude (Gowalla). Of
    several columns that may be the rating, the third is, before a time.

    Raises:
        DataError: it is none of these; the first line is shown.
    """
    first, width = rows[0], len(rows[0])
    columns = [[row[at].strip() for row in rows if len(row) == width] for at in range(width)]
    if not any(first):
        raise DataError(f"{place}: a blank line or an empty file; expected uid,item,time")
    if width == 2:
        if any(not _is_number(at[0]) and all(map(_is_number, at[1:])) for at in columns if at[1:]):
            raise DataError(
                f"{place}: found '{','.join(first)[:60]}', which looks like a header with unknown "
                f"names; {_REMEDY}"
            )
        return {"user": 0, "item": 1}, []
    times = [at for at, cells in enumerate(columns) if all(map(_is_time, cells))]
    if width == 3:
        return _three_columns(columns, times, place, first)
    places = [at for at, cells in enumerate(columns) if at not in times and _is_degrees(cells)]
    ratings = [at for at, cells in enumerate(columns) if at not in times and _is_rating(cells)]
    if width == 5 and len(times) == 1 and len(places) == 2:
        user, item = (at for at in range(width) if at not in (*times, *places))
        return {"user": user, "item": item, "time": times[0]}, []
    if times == [3] and 2 in ratings:
        ratings = [2]  # as MovieLens and Amazon have it, whose few users or items look like ratings
    if width == 4 and len(times) == 1 and len(ratings) == 1:
        rating = ratings[0]
        user, item = (at for at in range(width) if at not in (times[0], rating))
        if _is_amazon(columns[item], columns[user]):
            user, item = item, user
        return {"user": user, "item": item, "time": times[0], "rating": rating}, []
    raise DataError(
        f"{place}: found '{','.join(first)[:60]}': {width} columns and no header; {_REMEDY}"
    )


def _three_columns(
    columns: list[list[str]], times: list[int], place: str, first: Sequence[str]
) -> tuple[dict[str, int], list[str]]:
    if not all(map(_is_number, columns[2][:1])) and 2 not in times:
        dates = [at for at in times if is_date(columns[at][0])]
        if len(dates) == 1:
            user, item = (at for at in range(3) if at != dates[0])
            return {"user": user, "item": item, "time": dates[0]}, []
        raise DataError(
            f"{place}: found '{','.join(first)[:60]}': '{first[2].strip()[:60]}' where a time was "
            f"expected, and no known header; expected uid,item,time, or {_REMEDY}"
        )
    doubts = []
    if times and 2 not in times:
        doubts.append(
            f"column {times[0] + 1} looks like a time, and column 3 was taken as the time because "
            f"there is no header: if that is wrong, {_REMEDY}"
        )
    return {"user": 0, "item": 1, "time": 2}, doubts


def _is_time(cell: str) -> bool:
    return is_date(cell) or is_epoch(cell)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_rating(cells: Sequence[str]) -> bool:
    return all(_is_number(cell) and 0 <= float(cell) <= _MOST_STARS for cell in cells)


def _is_degrees(cells: Sequence[str]) -> bool:
    return all(re.fullmatch(r"-?\d{1,3}\.\d+", cell) for cell in cells)


def _is_amazon(users: Sequence[str], items: Sequence[str]) -> bool:
    """Whether these are Amazon's ids: its ratings of 2018 have the item first."""
    return all(map(_AMAZON_USER.fullmatch, users)) and all(map(_AMAZON_ITEM.fullmatch, items))
