# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The way of a row's values, from a sweep's yaml to the report's table, grows no longer."""

from pathlib import Path

from sweep_walk import files_entered, row_of

MOST_FILES = 11  # of the benchmark; one of them is the machine's state meanwhile


def test_a_rows_values_enter_few_files(tmp_path: Path) -> None:
    row, files = files_entered(lambda: row_of(tmp_path))
    assert row[0] == "FLAT"
    ours = [file for file in files if file.startswith("bench/")]
    assert ours[0] == "bench/sweep_config.py"
    assert "bench/report/tables.py" in ours
    assert len(ours) <= MOST_FILES, ours
