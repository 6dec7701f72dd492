# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A row of the table of faults: what happened, what was counted, which promise was broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tabulate import tabulate

MOST_PROBLEMS = 20  # that a row tells of
TERMS = """\
- **times**: how often the fault happened. Meanwhile `POST /candidates` comes 50 times a second,
  with clicks of 40 users by four callers, and where no insert replaces the items they change, too.
- **acknowledged**, **stored**: writes answered with 200, counted by who sent them, and those of
  them that the store holds at the end, by content and clicks in their order; of a trainer, epochs
  that it said it had saved, and those that are whole.
- **mixed**: lists that are neither the one model's nor the other's, item by item, by exact search.
- **5xx**: answers of that status, but for a write's 503: it says that nothing was acknowledged.
- **popular**: requests answered by popular items, as is promised while the model cannot answer;
  **none**: those for which nobody listened, while the service itself was dead.
- **longest**: of all answers, in seconds. **model again**: seconds from the end of the fault (the
  kill, the SIGCONT, the network's return, the disk's) to the first answer by the model after which
  no other came; median and worst. **clicks again**: to the first click that was acknowledged.
"""


@dataclass
class FaultRow:
    """What one kind of fault did."""

    fault: str
    times: int = 0
    requests: int = 0
    acknowledged: int = 0
    stored: int = 0
    mixed: int = 0
    errors: int = 0
    """Answers of status 5xx other than 503 to a write."""
    refused: int = 0
    """Writes that were answered with 503."""
    popular: int = 0
    unanswered: int = 0
    longest: float = 0.0
    model_again: list[float] = field(default_factory=list)
    writes_again: list[float] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    """Further ones, by their names."""
    problems: list[str] = field(default_factory=list)
    """Promises that were broken."""
    seconds: float = 0.0
    """That the row took."""

    @property
    def lost(self) -> int:
        """Acknowledged writes that the store does not hold."""
        return self.acknowledged - self.stored

    def add(self, name: str, number: int = 1) -> None:
        """Count further things by ``name``."""
        self.counts[name] = self.counts.get(name, 0) + number

    def require(self, condition: bool, problem: str) -> None:
        """Note ``problem`` where ``condition`` does not hold."""
        if not condition and len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)


def _again(seconds: Sequence[float]) -> str:
    return f"{median(seconds):.1f}, {max(seconds):.1f}" if seconds else ""


def table_of(rows: Sequence[FaultRow]) -> str:
    """The rows as a table in Markdown."""
    columns: dict[str, Callable[[FaultRow], Any]] = {
        "fault": lambda row: row.fault,
        "times": lambda row: row.times,
        "requests": lambda row: f"{row.requests:,}",
        "acknowledged": lambda row: f"{row.acknowledged:,}",
        "stored": lambda row: f"{row.stored:,}",
        "lost": lambda row: row.lost,
        "mixed": lambda row: row.mixed,
        "5xx": lambda row: row.errors,
        "503 of writes": lambda row: row.refused,
        "popular": lambda row: f"{row.popular:,}",
        "none": lambda row: f"{row.unanswered:,}",
        "longest, s": lambda row: f"{row.longest:.2f}",
        "model again, s": lambda row: _again(row.model_again),
        "clicks again, s": lambda row: _again(row.writes_again),
        "promises": lambda row: f"{len(row.problems)} broken" if row.problems else "held",
    }
    cells = [[value(row) for value in columns.values()] for row in rows]
    align = ["left"] + ["right"] * (len(columns) - 2) + ["left"]
    return tabulate(cells, list(columns), "github", colalign=align, disable_numparse=True)


def page_of(rows: Sequence[FaultRow], provenance: dict[str, Any]) -> str:
    """The table with what its columns mean, and where it was measured."""
    installed = ", ".join(f"{name} {value}" for name, value in provenance["versions"].items())
    broken = "".join(f"- {row.fault}: {text}\n" for row in rows for text in row.problems)
    machine = provenance["machine"]
    seconds = sum(row.seconds for row in rows)
    return "\n".join(
        [
            "# What faults do to the candidate service",
            "",
            "Written by `benchmarks/service_faults.py` (`make faults`), on the demo's model; every "
            "number is in service_faults.json beside it.",
            "",
            table_of(rows),
            "",
            TERMS,
            *((["Promises that were broken:", "", broken]) if broken else ()),
            f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
            f"{machine['platform']}; {installed}. "
            f"It took {seconds / 60:.0f} minutes.",
            "",
        ]
    )
