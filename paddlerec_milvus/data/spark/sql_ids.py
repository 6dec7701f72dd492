# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Ids of a log's users or items by Spark's SQL: all integers, or all strings, as on one machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paddlerec_milvus.data.log_ids import EXACT_FLOATS, are_few, beyond_int64, whole_floats

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

INTEGERS = ("tinyint", "smallint", "int", "bigint")
FLOATS = ("float", "double")
_PLAIN, _BEYOND, _FLOAT = (
    r"^(0|-?[1-9][0-9]*)\z",
    r"^-?(0|[1-9][0-9]*)\z",
    r"^-?[0-9]+(\.[0-9]*)?\z",
)
_BLANKS = r"(?U)^\s+|\s+\z"
_UNSIGNED = "decimal(20,0)"  # what Spark makes of integers without a sign


@dataclass(frozen=True)
class IdVerdict:
    """The ids as a column, of integers or strings, with what is worth a warning."""

    column: Column
    are_strings: bool
    warnings: dict[str, str]


class SqlIds:
    """The ids of one kind (``user`` or ``item``) in the column of that name."""

    def __init__(self, frame: DataFrame, kind: str, string_ids: bool) -> None:
        self.kind, self._string_ids = kind, string_ids
        self._type = dict(frame.dtypes)[kind]
        self.can_be_ids = self._type in (*INTEGERS, *FLOATS, "string", _UNSIGNED)

    def facts(self) -> dict[str, Column]:
        """What has to be known of all cells, by names that begin with the kind."""
        from pyspark.sql import functions as F  # noqa: N812

        cell = F.col(self.kind)
        if self._type in FLOATS:
            low = cell.cast("bigint")
            facts = {
                "broken": F.count_if(~_is_whole(cell)),
                "low": F.min(F.when(_is_whole(cell), low)),
            }
        elif self._type in INTEGERS:
            facts = {"low": F.min(cell.cast("bigint"))}
        else:
            facts = self._facts_of_text(self._text())
        facts |= {
            "nulls": F.count_if(cell.isNull()),
            "first": F.min_by(cell, F.struct("part", "block", "row")),
        }
        return {f"{self.kind}_{name}": fact for name, fact in facts.items()}

    def _text(self) -> Column:
        from pyspark.sql import functions as F  # noqa: N812

        return F.col(self.kind).cast("string")

    def _facts_of_text(self, cell: Column) -> dict[str, Column]:
        from pyspark.sql import functions as F  # noqa: N812

        facts = {
            "empty": F.count_if(stripped(cell) == ""),
            "padded": F.count_if(stripped(cell) != cell),
            "dots": F.count_if(F.contains(cell, F.lit("."))),
        }
        for form, text in (("", cell), ("inner_", stripped(cell))):
            number = F.when(text.rlike(_PLAIN), text).try_cast("bigint")
            value = F.when(text.rlike(_FLOAT), text).cast("double")
            facts |= {
                f"{form}plain": F.count(number),
                f"{form}low": F.min(number),
                f"{form}beyond": F.count_if(number.isNull() & text.rlike(_BEYOND)),
                f"{form}floats": F.count_if(text.rlike(_FLOAT)),
                f"{form}broken": F.count_if(~_is_whole(value)),
                f"{form}least": F.min(value),
            }
        return facts

    def verdict(self, row: Mapping[str, Any]) -> IdVerdict | None:
        """What the ids are by the facts in ``row``; None where some have to be judged."""
        facts = {key.removeprefix(f"{self.kind}_"): value for key, value in row.items()}
        if facts["nulls"]:
            return None
        if self._type in FLOATS:
            return None if facts["broken"] else self._from_floats(facts)
        if self._type in INTEGERS:
            return self._integers(self._column(), facts["low"])
        return self._of_text(facts, row["rows"])

    def _column(self) -> Column:
        from pyspark.sql import functions as F  # noqa: N812

        return F.col(self.kind)

    def _integers(
        self, column: Column, low: int, warnings: dict[str, str] | None = None
    ) -> IdVerdict | None:
        if self._string_ids:
            return IdVerdict(column.cast("string"), True, warnings or {})
        if self.kind == "item" and low < 1:
            return None
        return IdVerdict(column.cast("bigint"), False, warnings or {})

    def _from_floats(self, facts: Mapping[str, Any]) -> IdVerdict | None:
        from pyspark.sql import functions as F  # noqa: N812

        whole = self._column().cast("bigint")
        warnings = {"float": whole_floats(self.kind, facts["first"])}
        if self._string_ids:
            return IdVerdict(F.concat(whole.cast("string"), F.lit(".0")), True, warnings)
        return self._integers(whole, facts["low"], warnings)

    def _of_text(self, facts: Mapping[str, Any], rows: int) -> IdVerdict | None:
        cell, form = self._text(), ""
        if facts["padded"] == rows:  # all have blanks, after the separator say
            if facts["empty"]:
                return None
            cell, form = stripped(cell), "inner_"
        if self._string_ids:
            return IdVerdict(cell, True, {})
        if facts[f"{form}plain"] == rows:
            return self._integers(cell, facts[f"{form}low"])
        if facts["padded"] and facts["inner_plain"] == rows:
            return self._integers(stripped(cell), facts["inner_low"])
        if facts[f"{form}floats"] == rows and facts["dots"]:
            if facts[f"{form}broken"]:
                return None
            first = str(facts["first"])
            warnings = {"float": whole_floats(self.kind, first.strip() if form else first)}
            whole = cell.cast("double").cast("bigint")
            return self._integers(whole, facts[f"{form}least"], warnings)
        exceptions = rows - facts[f"{form}plain"] - facts[f"{form}beyond"]
        if are_few(exceptions, rows):
            return None
        beyond = facts[f"{form}beyond"] if not exceptions else 0
        return IdVerdict(cell, True, {"beyond": beyond_int64(self.kind, beyond)} if beyond else {})


def stripped(cell: Column) -> Column:
    """Without blanks around it, of any kind."""
    from pyspark.sql import functions as F  # noqa: N812

    return F.regexp_replace(cell, _BLANKS, "")


def _is_whole(value: Column) -> Column:
    from pyspark.sql import functions as F  # noqa: N812

    is_whole = (value == F.rint(value)) & ~F.isnan(value) & (F.abs(value) <= EXACT_FLOATS)
    return F.coalesce(is_whole, F.lit(True))  # empty ones are counted elsewhere
