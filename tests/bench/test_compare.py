# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Two runs side by side: which differences are noise, by numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from rows_for_report import FLAT, HNSW, Row, build, clients, compared, floor, point, row

from paddlerec_milvus.errors import UserError

EF = {"ef": 96}


def verdicts(first: list[Row], second: list[Row]) -> dict[str, str]:
    """Name of a number → noise or beyond noise, of runs with one setting."""
    found = {}
    for part in compared(first, second).split("\n## ")[1:]:
        title, *lines = part.splitlines()
        cells = [line.split("|")[-2].strip() for line in lines if line.startswith("|")]
        if cells and cells[0] == "verdict":
            found[title.replace("\\", "")] = cells[2]
    return found


def pair(name: str, one: dict[str, Any], other: dict[str, Any]) -> str:
    return verdicts([point(HNSW, EF, **one)], [point(HNSW, EF, **other)])[name]


def runs(rate: float, spread: float) -> dict[str, Any]:
    return {"throughput": [clients(1, rate, spread)]}


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        (runs(1000, 0.01), runs(1049, 0.01), "noise"),  # below 5 %
        (runs(1000, 0.01), runs(1051, 0.01), "beyond noise"),
        (runs(1000, 0.01), runs(949, 0.01), "beyond noise"),
        (runs(1000, 0.20), runs(1190, 0.01), "noise"),  # the runs of the first differ by 200
        (runs(1000, 0.20), runs(1210, 0.01), "beyond noise"),
        (runs(1000, 0.01), runs(1100, 0.10), "noise"),  # those of the second by 110
    ],
)
def test_throughput(one: dict[str, Any], other: dict[str, Any], verdict: str) -> None:
    assert pair("users/s", one, other) == verdict


def test_throughput_is_of_a_number_of_clients_that_both_have() -> None:
    one = {"throughput": [clients(1, 100.0), clients(2, 180.0), clients(8, 300.0)]}
    other = {"throughput": [clients(1, 200.0), clients(2, 181.0)]}
    assert pair("users/s", one, other) == "noise"


# both have a standard error of 0.0004: two of the difference are 2 * 0.0004 * sqrt(2) = 0.00113
@pytest.mark.parametrize(("found", "verdict"), [(0.9911, "noise"), (0.9912, "beyond noise")])
def test_index_recall(found: float, verdict: str) -> None:
    assert pair("index_recall", {"found": 0.99}, {"found": found}) == verdict


# lost 1 % ± 0.2 % of recall: 0.8 to 1.2 %. 1.5 % ± 0.2 % lies above, 1.3 % ± 0.2 % does not
@pytest.mark.parametrize(("lost", "verdict"), [(0.013, "noise"), (0.015, "beyond noise")])
def test_relevance(lost: float, verdict: str) -> None:
    one, other = {"lost": 0.01, "width": 0.002}, {"lost": lost, "width": 0.002}
    assert pair("recall@k", one, other) == verdict


@pytest.mark.parametrize(("p99", "verdict"), [(3.29, "noise"), (3.31, "beyond noise")])
def test_p99(p99: float, verdict: str) -> None:
    assert pair("p99, ms", {"p99": 3.0}, {"p99": p99}) == verdict


@pytest.mark.parametrize(("rss", "verdict"), [(209.0, "noise"), (211.0, "beyond noise")])
def test_memory(rss: float, verdict: str) -> None:
    first = [build(HNSW, 200.0), point(HNSW, EF)]
    assert verdicts(first, [build(HNSW, rss), point(HNSW, EF)])["RSS, MiB"] == verdict


def test_a_run_beside_itself_differs_in_nothing() -> None:
    rows = [build(HNSW), point(FLAT, {}, found=1.0), point(HNSW, EF, width=0.001)]
    text = compared(rows, rows)
    assert "11 numbers compared: 0 differ by more than noise, 11 do not." in text
    assert "Beyond noise\n" not in text
    assert "differs" not in text


def test_what_differs_is_shown_with_both_values() -> None:
    text = compared([point(HNSW, EF, p99=3.0)], [point(HNSW, EF, p99=4.5)])
    (line,) = (line for line in text.splitlines() if "ef 96: p99, ms" in line)
    cells = [cell.strip() for cell in line.split("|")]
    assert cells[2:6] == ["3.00", "4.50", "+1.50", "+50.0"]


def test_other_data_is_said_loudly_and_relevance_left_out() -> None:
    other = point(HNSW, EF)
    other["provenance"]["data"]["fingerprint"] = "fedcba9876543210"
    text = compared([point(HNSW, EF)], [other])
    assert "OTHER DATA" in text
    assert "recall@k\n" not in text
    assert "## index_recall" in text
    assert "data: fingerprint" in text


def test_another_machine_and_version_are_said() -> None:
    other = point(HNSW, EF)
    other["provenance"]["machine"]["cores"] = 64
    other["provenance"]["versions"]["pymilvus"] = "4.0.0"
    text = compared([point(HNSW, EF)], [other])
    lines = [
        [cell.strip() for cell in line.split("|")[1:4]]
        for line in text.splitlines()
        if line.startswith(("| machine", "| versions"))
    ]
    assert lines == [["machine: cores", "2", "64"], ["versions: pymilvus", "3.0.0", "4.0.0"]]
    assert "OTHER DATA" not in text


def test_rows_of_one_run_alone_are_listed() -> None:
    first = [point(HNSW, EF), floor(HNSW, EF), point(HNSW, {"ef": 50})]
    second = [point(HNSW, EF), row("point", HNSW, search={"ef": 50}, k=50, refused="no")]
    text = compared(first, second)
    assert "## Only in the first run" in text
    assert "- faiss: HNSW M 16, efConstruction 200, ef 96, k 50" in text
    assert "- point: HNSW M 16, efConstruction 200, ef 50, k 50" in text
    assert "Only in the second" not in text


def on(server: str, row: Row) -> Row:
    row["provenance"]["server"]["kind"] = server
    return row


def test_a_row_is_set_beside_that_of_its_own_kind_of_server() -> None:
    both = [on("local", point(HNSW, EF, p99=2.0)), on("lite", point(HNSW, EF, p99=9.0))]
    text = compared(both, both)
    assert " 0 differ by more than noise" in text
    assert "Only in" not in text
    text = compared(both, both[:1])
    assert " 0 differ by more than noise" in text
    assert "- point: HNSW M 16, efConstruction 200, ef 96, k 50 (lite)" in text


def test_runs_of_one_kind_of_server_each_are_compared() -> None:
    text = compared([on("local", point(HNSW, EF))], [on("lite", point(HNSW, EF, p99=9.0))])
    assert "ef 96: p99, ms" in text
    assert "Only in" not in text


def test_lists_of_another_length_are_no_pair() -> None:
    with pytest.raises(UserError, match="no setting in common"):
        compared([point(HNSW, EF)], [point(HNSW, EF, k=10)])


def test_an_empty_run_is_refused() -> None:
    with pytest.raises(UserError, match="nothing was measured yet"):
        compared([], [point(HNSW, EF)])
