# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Ids of a log's users or items, taken in chunk by chunk: all integers, or all strings."""

from __future__ import annotations

import numpy as np
import polars as pl

from paddlerec_milvus.data.log import Ints
from paddlerec_milvus.data.log_times import Where
from paddlerec_milvus.errors import DataError

# A column of integers with at most this many exceptions is taken for a damaged one.
_FEW_EXCEPTIONS, _FEW_EXCEPTIONS_SHARE = 3, 0.05
EXACT_FLOATS = 2**53  # above this neighbouring integers are one floating-point number
_PLAIN_INTEGER = r"^-?(0|[1-9]\d*)$"
_FLOAT = r"^-?\d+(\.\d*)?$"
_DENSE = 8  # a table of all numbers between the smallest and largest id is that much larger at most


class IdColumn:
    """Ids of one kind (``user`` or ``item``), in the form that all of them allow.

    They are integers where all are integers in their plain form ("007" is a name: as a number it
    would become another id than "7" is), else strings.
    """

    def __init__(self, kind: str, string_ids: bool = False) -> None:
        self.kind = kind
        self.warnings: dict[str, str] = {}  # by what they are about, so that none comes twice
        self._string_ids = string_ids
        self._chunks: list[pl.Series] = []
        self._rows = 0
        self._exceptions = 0
        self._beyond_int64 = 0
        self._first_exception = ""
        self._strip: bool | None = None
        self._not_stripped = ""  # where a cell has no blanks, though all of the first chunk have
        self._rewritten = ""  # where a text is an integer that is written otherwise, such as 7.0
        self._first_text = ""  # where ids of a chunk are no integers

    def parse(self, column: pl.Series, where: Where) -> pl.Series:
        """A chunk as Int64 where it can be, else as Categorical.

        Raises:
            DataError: an empty id, one that is no integer, text or whole number, an item below 1.
        """
        dtype = column.dtype
        if dtype.is_float():
            ids: pl.Series = self._whole(column, column, where)
        elif dtype.is_integer():
            ids = column.cast(pl.Int64, strict=False)
        elif dtype in (pl.String, pl.Categorical, pl.Enum):
            column = self._stripped(column.cast(pl.String), where)
            ids = self._integers(column, where)
        else:
            raise DataError(
                f"{where(0)}: {self.kind} ids of type {dtype}; expected integers or text"
            )
        if column.null_count():
            row = column.is_null().arg_max() or 0
            raise DataError(f"{where(row)}: a blank line or an empty {self.kind} id")
        self._rows += len(column)
        if self._string_ids:
            return _categorical(column)
        exceptions = ids.null_count()
        if not exceptions:
            if self.kind == "item" and len(ids) and ids.min() < 1:  # type: ignore[operator]
                row = ids.arg_min() or 0
                raise DataError(
                    f"{where(row)}: item id {ids[row]}; integer item ids start at 1 (0 is "
                    "padding): number them from 1, or take ids as they are with --string-ids"
                )
            return ids
        column = column.cast(pl.String)
        self._count_exceptions(column, ids, where)
        return _categorical(column)

    def _count_exceptions(self, column: pl.Series, ids: pl.Series, where: Where) -> None:
        if not self._first_text:
            is_word = ids.is_null() & ~column.str.strip_chars().str.contains(_FLOAT)
            is_text = is_word if is_word.any() else ids.is_null()
            self._first_text = self._first_of(is_text, column, where)
        beyond = ids.is_null() & column.str.contains(_PLAIN_INTEGER)
        self._beyond_int64 += int(beyond.sum())
        strange = ids.is_null() & ~beyond
        if strange.any() and not self._first_exception:
            self._first_exception = self._first_of(strange, column, where)
        self._exceptions += int(strange.sum())

    def _first_of(self, rows: pl.Series, column: pl.Series, where: Where) -> str:
        """The place and the id of the first of ``rows``, a mask with some."""
        row = rows.arg_max() or 0
        return f"{where(row)}: found {self.kind} id '{column[row][:60]}'"

    def _stripped(self, column: pl.Series, where: Where) -> pl.Series:
        """Without the blanks that all cells of a column have, after "," say; "" becomes null."""
        if self._strip is not False:
            stripped = column.str.strip_chars()
            bare = (stripped == column).fill_null(False)
            if self._strip is None:
                self._strip = not bare.any()
            elif bare.any() and not self._not_stripped:
                self._not_stripped = self._first_of(bare, column, where)
            column = stripped if self._strip else column
        return pl.Series(column.replace("", None)) if (column == "").any() else column

    def _integers(self, column: pl.Series, where: Where) -> pl.Series:
        """Int64, null where a cell is no integer in its plain form."""
        ids: pl.Series = column.cast(pl.Int64, strict=False)
        if ids.null_count() == column.null_count():
            if not _may_be_names(column):
                return ids
            plain = ids.cast(pl.String) == column
            return ids if plain.all() else pl.Series(ids.set(~plain, None))
        if len(column) and (column.str.strip_chars() != column).any():
            inner = column.str.strip_chars()
            ids = inner.cast(pl.Int64, strict=False)
            if not ids.null_count() and bool((ids.cast(pl.String) == inner).all()):
                self._rewritten = self._rewritten or self._first_of(inner != column, column, where)
                return ids  # an integer is the same with blanks around it
            ids = column.cast(pl.Int64, strict=False)
        if not column.null_count() and not self._string_ids and _are_floats(column):
            ids = self._whole(column.cast(pl.Float64), column, where)
            dots = column.str.contains(".", literal=True)
            self._rewritten = self._rewritten or self._first_of(dots, column, where)
            return ids
        named = (ids.cast(pl.String) != column).fill_null(False)
        return pl.Series(ids.set(named, None))

    def _whole(self, values: pl.Series, column: pl.Series, where: Where) -> pl.Series:
        """Floating-point ids as integers, if all are whole."""
        if values.is_null().any():
            row = values.is_null().arg_max() or 0
            raise DataError(f"{where(row)}: a blank line or an empty {self.kind} id")
        bad = (values != values.round()) | values.is_nan() | (values.abs() > EXACT_FLOATS)
        if bad.any():
            row = bad.arg_max() or 0
            raise DataError(
                f"{where(row)}: {self.kind} ids of type Float64, and {column[row]} is no whole "
                "number below 2^53, so it cannot be an id; store ids as integers or text"
            )
        self.warnings.setdefault("float", whole_floats(self.kind, column[0]))
        return pl.Series(values.cast(pl.Int64))

    def add(self, ids: pl.Series) -> None:
        """Take in the parsed ids that are left after filtering."""
        self._chunks.append(ids)

    def check(self) -> None:
        """Check the ids of all chunks.

        Raises:
            DataError: a few ids are no integers among many that are, as a damaged line has them;
                or what some chunks hold is read in a form that others do not allow.
        """
        if self._rewritten and self._first_text:
            raise DataError(
                f"{self._rewritten}, read as an integer, and {self._first_text}, which is none: "
                "write all ids alike, or take them as they are with --string-ids"
            )
        if self._not_stripped and (self._string_ids or self._first_text):
            raise DataError(
                f"{self._not_stripped} without blanks around it, which the ids before have: write "
                "all alike"
            )
        if are_few(self._exceptions, self._rows):
            raise DataError(
                f"{self._first_exception}, expected an integer as in the other lines; mend the "
                "line, or take all ids as strings with --string-ids"
            )

    def finish(self) -> tuple[pl.Series, Ints]:
        """Distinct ids in ascending order (strings by their bytes), and the row of each click [n].

        DataError: see :meth:`check`.
        """
        self.check()
        chunks, self._chunks = self._chunks, []
        if all(chunk.dtype == pl.Int64 for chunk in chunks):
            return _integer_rows(chunks)
        if self._beyond_int64 and not self._exceptions:
            self.warnings["beyond"] = beyond_int64(self.kind, self._beyond_int64)
        distinct, rows = _string_rows(chunks)
        self._warn_of_likeness(distinct)
        return distinct, rows

    def _warn_of_likeness(self, distinct: pl.Series) -> None:
        """Ids that differ in blanks or case alone are different ids, and that is said."""
        folded = distinct.str.to_lowercase().str.replace_all(r"\s+", "")
        alike = folded.is_duplicated()
        if alike.any():
            same = distinct.filter(folded == folded[alike.arg_max() or 0])
            self.warnings["alike"] = alike_ids(self.kind, int(alike.sum()), same[0], same[1])


def are_few(exceptions: int, rows: int) -> bool:
    """Whether so few of ``rows`` ids are no integers that these are mistakes."""
    allowed = max(_FEW_EXCEPTIONS, _FEW_EXCEPTIONS_SHARE * rows)
    return 0 < exceptions <= allowed < rows / 2


def whole_floats(kind: str, example: object) -> str:
    """The warning that ids are floating point."""
    return f"{kind} ids are floating point ({example}); all are whole and were read as integers"


def beyond_int64(kind: str, count: int) -> str:
    """The warning that some ids are integers of more than 64 bits."""
    return f"{count:,} {kind} ids are integers beyond 2^63: all {kind} ids were taken as strings"


def alike_ids(kind: str, count: int, first: str, second: str) -> str:
    """The warning that some ids are the same but for blanks and case."""
    return (
        f"{count:,} {kind} ids differ only in blanks or upper and lower case, such as "
        f"'{first[:60]}' and '{second[:60]}': they stay different ids"
    )


def _categorical(ids: pl.Series) -> pl.Series:
    return pl.Series(ids.cast(pl.String).cast(pl.Categorical))


def _may_be_names(column: pl.Series) -> bool:
    """Whether some of these numbers are perhaps not in their plain form: "007", "+7", "-0"."""
    zero = column.str.starts_with("0") & (column != "0")
    return bool((zero | column.str.starts_with("+") | column.str.starts_with("-")).any())


def _are_floats(column: pl.Series) -> bool:
    """Whether all cells are numbers and some have a decimal point."""
    if not column.str.contains(_FLOAT).all():
        return False
    return bool(column.str.contains(".", literal=True).any())


def coded(ids: pl.Series) -> tuple[pl.Series, Ints]:
    """Distinct ids in ascending order, and the row of each click [n], of integers or strings."""
    if ids.dtype == pl.String:
        return _string_rows([ids.cast(pl.Categorical)])
    return _integer_rows([ids.cast(pl.Int64)])


def _integer_rows(chunks: list[pl.Series]) -> tuple[pl.Series, Ints]:
    rows = np.empty(sum(map(len, chunks)), np.int64)
    if not len(rows):
        return pl.Series([], dtype=pl.Int64), rows
    first = 0
    while chunks:
        chunk = chunks.pop(0)
        rows[first : first + len(chunk)] = chunk.to_numpy()
        first += len(chunk)
    low, high = int(rows.min()), int(rows.max())
    if high - low < _DENSE * len(rows):
        rows -= low
        present = np.zeros(high - low + 1, bool)
        present[rows] = True
        distinct = np.flatnonzero(present) + low
        number = np.cumsum(present, dtype=np.int64) - 1
        return pl.Series(distinct), np.take(number, rows, out=rows)
    distinct = pl.Series(rows).unique().sort().to_numpy()
    return pl.Series(distinct), np.searchsorted(distinct, rows)


def _string_rows(chunks: list[pl.Series]) -> tuple[pl.Series, Ints]:
    ids = pl.concat([c if c.dtype == pl.Categorical else _categorical(c) for c in chunks])
    used = ids.unique()
    names = used.cast(pl.String)
    order = names.arg_sort()
    number = np.zeros(int(used.to_physical().max() or 0) + 1, np.int64)  # type: ignore[arg-type]
    number[used.to_physical().gather(order).to_numpy()] = np.arange(len(order))
    return names.gather(order), number[ids.to_physical().to_numpy()]
