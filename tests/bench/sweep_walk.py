# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Which files the values of a row enter, from a sweep's yaml to a line of the report's table.

``python tests/bench/sweep_walk.py`` prints them in order, for a tiny sweep on Milvus Lite.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import pymilvus  # noqa: F401  (loading it later would be profiled)
import yaml

import paddlerec_milvus
from paddlerec_milvus.bench.report.tables import main_table
from paddlerec_milvus.bench.report.view import view_of
from paddlerec_milvus.bench.results_file import ResultsFile, read_rows
from paddlerec_milvus.bench.sweep_config import load_workload, read_sweep
from paddlerec_milvus.bench.sweep_runner import SweepRunner

T = TypeVar("T")
PREFIX = f"{Path(paddlerec_milvus.__file__).parent}/"
SWEEP = {
    "data": {
        "synthetic": {"items": 200, "dimension": 8, "users": 5, "interests": 2, "clusters": 5}
    },
    "server": "lite",
    "k": 5,
    "indexes": [{"type": "FLAT"}],
    "measure": {"requests": 5, "warm_up": 1, "clients": [1], "seconds": 0.05, "batches": [2]},
}


def row_of(folder: Path) -> list[str]:
    """The line of the only setting in the report's table, all the way from the yaml."""
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(SWEEP))
    sweep = read_sweep(file)
    with ResultsFile(folder / "out") as rows:
        SweepRunner(sweep, load_workload(sweep), rows)()
    table = main_table(view_of(read_rows(folder / "out")), [], {})
    return [cell for column in table.columns for cell in column.cells]


def files_entered(call: Callable[[], T]) -> tuple[T, list[str]]:
    """What ``call`` returns, and the package's files whose functions it enters, in order."""
    entered: dict[str, None] = {}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PREFIX) and code.co_name != "<module>":
            entered.setdefault(code.co_filename.removeprefix(PREFIX))

    sys.setprofile(note)
    try:
        result = call()
    finally:
        sys.setprofile(None)
    return result, list(entered)


def main() -> None:
    """Print the files of the benchmark, and those of other packages apart."""
    with tempfile.TemporaryDirectory() as folder:
        row, files = files_entered(lambda: row_of(Path(folder)))
    ours = [file for file in files if file.startswith("bench/")]
    print(" | ".join(row), f"\n{len(ours)} files of the benchmark:", *ours, sep="\n  ")
    others = [file for file in files if file not in ours]
    print(f"\n{len(others)} files of other packages:", *others, sep="\n  ")


if __name__ == "__main__":
    main()
