# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rows are kept whole, read again, and guarded."""

import json
from typing import Any

import pytest
from rows_for_report import HNSW, point, results

from paddlerec_milvus.bench.results import Result
from paddlerec_milvus.bench.results_file import (
    FILE,
    REPORT,
    ResultsError,
    ResultsFile,
    key_of,
    line_of,
    read_rows,
)


def row(key: str, **changed: Any) -> Result:
    (result,) = results([point(HNSW, {"ef": 96}, **changed) | {"key": key}])
    return result


def test_what_is_added_is_there_again(tmp_path):
    with ResultsFile(tmp_path / "out") as rows:
        rows.add(row("a", merge_ms=float("nan")))
    with ResultsFile(tmp_path / "out") as rows:
        assert "a" in rows
        assert "b" not in rows
        assert rows.rows == [row("a", merge_ms=None)]


def test_a_cut_line_is_dropped_and_written_over(tmp_path):
    with ResultsFile(tmp_path) as rows:
        rows.add(row("a"))
    with (tmp_path / FILE).open("a") as file:
        file.write('{"schema": 2, "key": "b", "val')
    assert [row.key for row in read_rows(tmp_path)] == ["a"]
    with ResultsFile(tmp_path) as rows:
        rows.add(row("c"))
    assert [row.key for row in read_rows(tmp_path)] == ["a", "c"]


def test_two_runs_do_not_share_a_folder(tmp_path):
    with ResultsFile(tmp_path), pytest.raises(ResultsError, match="another run is writing there"):
        ResultsFile(tmp_path)
    with ResultsFile(tmp_path):
        pass  # the first one let go


@pytest.mark.parametrize("schema", [0, 1])
def test_another_schema_is_refused(tmp_path, schema):
    (tmp_path / FILE).write_text(json.dumps({"schema": schema, "key": "a"}) + "\n")
    said = f"line 1: schema {schema}, this version writes and reads 2"
    with pytest.raises(ResultsError, match=said):
        read_rows(tmp_path)


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / FILE).write_text(line_of(row("a")) + "\nnonsense\n")
    with pytest.raises(ResultsError, match="line 2: is not JSON: nonsense"):
        read_rows(tmp_path)


def test_a_kept_report_is_enough(tmp_path):
    report, rows = tmp_path / "report.json", [json.loads(line_of(row("a")))]
    report.write_text(json.dumps({"advice": [], "table": [], "rows": rows}))
    assert read_rows(tmp_path) == [row("a")]
    report.write_text(json.dumps({"rows": [*rows, {"schema": 0}]}))
    with pytest.raises(ResultsError, match=r"report\.json, row 2: schema 0"):
        read_rows(tmp_path)
    report.write_text(json.dumps([1]))
    with pytest.raises(ResultsError, match="is no report of a run"):
        read_rows(tmp_path)


def test_a_run_goes_on_from_a_kept_report(tmp_path):
    rows = [json.loads(line_of(row("a")))]
    (tmp_path / REPORT).write_text(json.dumps({"rows": rows}))
    with ResultsFile(tmp_path) as kept:
        assert "a" in kept
        kept.add(row("b"))
    (tmp_path / REPORT).unlink()
    assert read_rows(tmp_path) == [row("a"), row("b")]


def test_a_row_without_its_numbers_is_named(tmp_path):
    whole = json.loads(line_of(row("a")))
    del whole["measured"]["latency"]["p99"]
    (tmp_path / FILE).write_text(json.dumps(whole) + "\n")
    said = r"line 1: is no result of a run: point\.measured\.latency\.p99: Field required"
    with pytest.raises(ResultsError, match=said):
        read_rows(tmp_path)


def test_what_is_no_text(tmp_path):
    (tmp_path / FILE).write_bytes(b"\xff\n")
    with pytest.raises(ResultsError, match="is no text"):
        read_rows(tmp_path)


def test_no_results(tmp_path):
    with pytest.raises(ResultsError, match="cannot be read"):
        read_rows(tmp_path / "nothing")


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="cannot be written"):
        ResultsFile(tmp_path / "file" / "out")


def test_a_full_disk_loses_nothing(tmp_path):
    with ResultsFile(tmp_path) as rows:
        rows.add(row("a"))
        kept = (tmp_path / FILE).read_bytes()
        (tmp_path / FILE).unlink()
        (tmp_path / FILE).symlink_to("/dev/full")
        with pytest.raises(ResultsError, match="No space left on device; the 1 rows so far stand"):
            rows.add(row("b"))
        assert "b" not in rows
        (tmp_path / FILE).unlink()
        (tmp_path / FILE).write_bytes(kept)
        rows.add(row("b"))
    assert [row.key for row in read_rows(tmp_path)] == ["a", "b"]


def test_a_key_depends_on_values_and_not_on_their_order():
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1, "b": 3})
