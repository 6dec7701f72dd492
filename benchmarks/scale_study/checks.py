# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""How far a fit is off at a size that it has not seen: the largest one, then an inner one.

The fit is told the case alone, as for a plan: segments and ef or nprobe are its own, not those that
were measured at that size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from paddlerec_milvus.errors import SettingsError
from scale_study.fit import QUANTITIES, ScaleFit, values_of
from scale_study.rows import ScaleRow, usual_rows

BARS = {"memory, MiB": 0.10, "p50, ms": 0.25}
"""Largest relative error at the size that was left out."""
LEAST_SIZES = 3


@dataclass(frozen=True)
class FitCheck:
    """A row that was left out, beside what the others say of it."""

    type: str
    quantity: str
    left_out: str
    """largest or inner."""
    items: int
    dimension: int
    measured: float
    fitted: float

    @property
    def error(self) -> float:
        """Relative, above 0 where the fit says too much."""
        return self.fitted / self.measured - 1

    @property
    def bar(self) -> float | None:
        """The most that the error may be; None: it is shown alone."""
        return BARS.get(self.quantity)

    @property
    def holds(self) -> bool:
        """Whether the error is within the bar."""
        return self.bar is None or abs(self.error) <= self.bar


def checks_of(rows: Sequence[ScaleRow]) -> list[FitCheck]:
    """Every quantity of every type, at both sizes; of usual rows alone.

    SettingsError: fewer than three sizes of all.
    """
    usual = usual_rows(rows)
    checks = [
        check for name in sorted({row.case.type for row in usual}) for check in _of(name, usual)
    ]
    if not checks:
        raise SettingsError(
            f"--fit needs {LEAST_SIZES} sizes of an index type, so that one can be left out; "
            f"measure them first, see --help ({len(usual)} rows of the usual case so far)"
        )
    return checks


def _of(name: str, rows: Sequence[ScaleRow]) -> Iterator[FitCheck]:
    of_type = [row for row in rows if row.case.type == name]
    sizes = sorted({row.case.items for row in of_type})
    if len(sizes) < LEAST_SIZES:
        return
    for left_out, size in (("largest", sizes[-1]), ("inner", sizes[len(sizes) // 2])):
        fit = ScaleFit.of([row for row in of_type if row.case.items != size])
        for row in (row for row in of_type if row.case.items == size):
            point = fit.point(row.case)
            for quantity in QUANTITIES:
                measured = values_of(row)[quantity]
                if measured is not None and measured > 0:
                    says = fit.value(quantity, point)
                    place = (size, row.case.dimension)
                    yield FitCheck(name, quantity, left_out, *place, measured, says)


def checks_table(checks: Sequence[FitCheck], style: str = "simple") -> str:
    """A line for each, and whether its bar holds."""
    lines = [
        (
            *(check.type, check.quantity, check.left_out),
            f"{check.items:,} x {check.dimension}",
            *(f"{value:,.1f}" for value in (check.measured, check.fitted)),
            f"{100 * check.error:+.1f} %",
            "" if check.bar is None else f"{100 * check.bar:.0f} %",
            "" if check.bar is None else "yes" if check.holds else "no",
        )
        for check in checks
    ]
    head = ["index", "what", "left out", "size", "measured", "fitted", "error", "bar", "holds"]
    return tabulate(lines, head, tablefmt=style, disable_numparse=True)
