# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rows are kept whole, read again, and guarded."""

import json

import pytest

from paddlerec_milvus.bench.results_file import FILE, ResultsError, ResultsFile, key_of, read_rows


def test_what_is_added_is_there_again(tmp_path):
    with ResultsFile(tmp_path / "out") as rows:
        rows.add({"key": "a", "value": float("nan")})
    with ResultsFile(tmp_path / "out") as rows:
        assert "a" in rows
        assert "b" not in rows
        assert rows.rows == [{"schema": 1, "key": "a", "value": None}]


def test_a_cut_line_is_dropped_and_written_over(tmp_path):
    with ResultsFile(tmp_path) as rows:
        rows.add({"key": "a"})
    with (tmp_path / FILE).open("a") as file:
        file.write('{"schema": 1, "key": "b", "val')
    assert [row["key"] for row in read_rows(tmp_path)] == ["a"]
    with ResultsFile(tmp_path) as rows:
        rows.add({"key": "c"})
    assert [row["key"] for row in read_rows(tmp_path)] == ["a", "c"]


def test_two_runs_do_not_share_a_folder(tmp_path):
    with ResultsFile(tmp_path), pytest.raises(ResultsError, match="another run is writing there"):
        ResultsFile(tmp_path)
    with ResultsFile(tmp_path):
        pass  # the first one let go


def test_another_schema_is_refused(tmp_path):
    (tmp_path / FILE).write_text(json.dumps({"schema": 0, "key": "a"}) + "\n")
    with pytest.raises(ResultsError, match=r"line 1: schema 0, this version writes and reads 1"):
        read_rows(tmp_path)


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / FILE).write_text('{"schema": 1}\nnonsense\n')
    with pytest.raises(ResultsError, match="line 2: is not JSON: nonsense"):
        read_rows(tmp_path)


def test_a_kept_report_is_enough(tmp_path):
    report, rows = tmp_path / "report.json", [{"schema": 1, "kind": "point"}]
    report.write_text(json.dumps({"advice": [], "table": [], "rows": rows}))
    assert read_rows(tmp_path) == rows
    report.write_text(json.dumps({"rows": [*rows, {"schema": 0}]}))
    with pytest.raises(ResultsError, match=r"report\.json, row 2: schema 0"):
        read_rows(tmp_path)
    report.write_text(json.dumps([1]))
    with pytest.raises(ResultsError, match="is no report of a run"):
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
        rows.add({"key": "a"})
        kept = (tmp_path / FILE).read_bytes()
        (tmp_path / FILE).unlink()
        (tmp_path / FILE).symlink_to("/dev/full")
        with pytest.raises(ResultsError, match="No space left on device; the 1 rows so far stand"):
            rows.add({"key": "b"})
        assert "b" not in rows
        (tmp_path / FILE).unlink()
        (tmp_path / FILE).write_bytes(kept)
        rows.add({"key": "b"})
    assert [row["key"] for row in read_rows(tmp_path)] == ["a", "b"]


def test_a_key_depends_on_values_and_not_on_their_order():
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1, "b": 3})
