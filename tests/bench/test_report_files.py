# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Reports of rows whose numbers are known."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rows_for_report import (
    FLAT,
    HNSW,
    Row,
    build,
    clients,
    everything,
    floor,
    latency,
    point,
    report_written,
    results,
    row,
    study,
    view,
)

from paddlerec_milvus.bench.report.advice import advise
from paddlerec_milvus.bench.report.document import as_markdown, report_of
from paddlerec_milvus.bench.report.plot_style import pareto, styles_of
from paddlerec_milvus.bench.report.view import fraction, per_cent, rounded
from paddlerec_milvus.bench.results_file import RESULT
from paddlerec_milvus.errors import UserError

pytest.importorskip("jinja2")


def text_of(rows: list[Row]) -> str:
    return as_markdown(report_of(view(rows)))


def lines_of(text: str, title: str) -> list[dict[str, str]]:
    """The lines of the Markdown table below the heading ``title``, or of the first one."""
    part = text.split(f"## {title}\n", 1)[1] if title else text
    table = re.search(r"(^\|.*\n)+", part, re.MULTILINE)
    assert table is not None
    head, _, *lines = [
        [cell.strip().strip("*") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in table.group().splitlines()
    ]
    return [dict(zip(head, line, strict=True)) for line in lines]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    report_written(everything(), folder)
    return folder


class Page(HTMLParser):
    """What a page loads, its headings, and ids."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.headings: list[int] = []
        self.lang = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.loads += [str(values[name]) for name in ("src", "href") if name in values]
        self.lang = values.get("lang") or self.lang
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))


def test_five_files_are_written_and_nothing_else(written: Path) -> None:
    names = [f"report.{end}" for end in ("csv", "html", "json", "md", "png")]
    assert sorted(file.name for file in written.iterdir()) == names
    assert (written / "report.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_needs_no_network(written: Path) -> None:
    page = Page()
    text = (written / "report.html").read_text(encoding="utf-8")
    page.feed(text)
    assert page.loads == ["data:,"]
    assert page.lang == "en"
    assert "default-src 'none'" in text  # and the browser would refuse, too
    assert len(text.encode()) < 1_500_000
    assert "@media print" in text
    assert 'name="viewport"' in text
    steps = [
        after - before for before, after in zip(page.headings, page.headings[1:], strict=False)
    ]
    assert page.headings[0] == 1
    assert max(steps) <= 1


def test_the_figures_of_the_tables_are_those_of_the_json(written: Path) -> None:
    report = json.loads((written / "report.json").read_text())
    assert [row.pop("schema") for row in report["rows"]] == [2] * len(report["rows"])
    rows = [RESULT.validate_python(row) for row in report["rows"]]
    assert rows == results(everything())
    text = (written / "report.md").read_text()
    main, more = lines_of(text, ""), lines_of(text, "More on each setting")
    assert len(main) == len(more) == len(report["table"]) == 30
    for ours, rest, line in zip(main, more, report["table"], strict=True):
        assert ours["setting"] == rest["setting"] == line["setting"]
        assert ours["index_recall@50"] == fraction(line["index_recall_list"])
        assert ours["recall@50, %"] == per_cent(line["recall"])
        shown = ours["recall@50 lost, % of it"]
        bounds = [line[f"recall_lost_relative_{end}"] for end in ("low", "high")]
        if bounds == [0, 0]:
            assert shown == "0"
        else:
            assert f"({per_cent(bounds[0])} to {per_cent(bounds[1])})" in shown
            noise = bounds[0] <= 0 <= bounds[1]
            mean = "not seen above noise" if noise else per_cent(line["recall_lost_relative"])
            assert shown.startswith(mean)
        for cell, name in (
            (ours["p99, ms"], "latency_p99"),
            (ours["users/s"], "users_per_second"),
            (ours["times FLAT"], "times_flat"),
            (ours["build, s"], "build_seconds"),
            (rest["p50, ms"], "latency_p50"),
            (rest["users/s, 1 client"], "users_per_second_1_clients"),
            (rest["disk, MiB"], "disk_mib"),
        ):
            assert cell == rounded(line[name])
    assert report["advice"][0]["text"] in text.replace("\\", "")


def test_csv_has_a_line_a_point_and_the_numbers_of_the_json(written: Path) -> None:
    table = json.loads((written / "report.json").read_text())["table"]
    with (written / "report.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["setting"] for line in lines] == [line["setting"] for line in table]
    assert [float(line["latency_p99"]) for line in lines] == [line["latency_p99"] for line in table]
    assert lines[-1]["rss_mib"] == ""  # AUTOINDEX: not seen


def test_the_engine_stands_beside_milvus() -> None:
    # p50 of Milvus 0.45 * 4 = 1.8 ms, of the engine 0.6: 1.2 ms above, two thirds of 1.8
    rows = [point(HNSW, {"ef": 96}, p99=4.0), floor(HNSW, {"ef": 96}, "hnswlib", p50=0.6)]
    (line,) = lines_of(text_of(rows), "Above the engine")
    shown = [line[name] for name in ("engine p50, ms", "Milvus p50, ms", "above the engine, ms")]
    assert shown == ["0.600", "1.80", "1.20"]
    assert line["of Milvus' p50, %"] == "67"


def test_clients_batches_open_loop_and_builds_have_tables() -> None:
    loop = latency(5.0) | {"rate": 200, "clients": 4, "planned": 1000}
    rows = [
        build(HNSW, segments=[{"rows": 9000, "indexed": True}, {"rows": 346, "indexed": False}])
    ]
    rows.append(point(HNSW, {"ef": 96}, rate=1000.0, open_loop=[loop]))
    text = text_of(rows)
    (line,) = lines_of(text, "Throughput by clients")
    assert (line["1"], line["4"]) == ("500 (4.00)", "1,000 (8.00)")
    assert lines_of(text, "Batches")[0]["16 a call"] == "1,500"
    (line,) = lines_of(text, "Open loop")
    assert (line["planned"], line["p99, ms"]) == ("1,000", "5.00")
    (line,) = lines_of(text, "Building, memory and disk")
    assert (line["all, s"], line["added"], line["segments"]) == (
        "5.00",
        "30.0",
        "2, 1 without index",
    )


def test_studies_are_shown_whatever_they_hold() -> None:
    rows = [
        study("exclusion", {"ids": 20, "by": "filter"}, {"p50": 1.25, "index_recall": 0.98}),
        study(
            "exclusion",
            {"ids": 1000, "by": "filter"},
            {"p50": None, "short_lists": 3, "searched_with": "ef 96"},
        ),
        study("tides", {"state": "full"}, {"seconds": 1234.0}),
    ]
    text = text_of(rows)
    first, second = lines_of(text, "Lists without items already seen")
    assert (first["p50, ms"], first["index_recall"], second["short lists"]) == (
        "1.25",
        "0.9800",
        "3",
    )
    assert (second["ids"], second["p50, ms"]) == ("1,000", "")
    assert (first["searched with"], second["searched with"]) == ("", "ef 96")
    assert lines_of(text, "tides") == [{"state": "full", "took, s": "1,234"}]


def test_special_characters_are_shown_as_they_are(tmp_path: Path) -> None:
    reason = "no <b>such</b> | index_type * [x](y) `code` _so_\nnext line"
    rows = [row("build", FLAT, refused=reason), point(HNSW, {"ef": 96})]
    rows[1]["provenance"]["data"]["name"] = "</script><script>alert(1)</script>|$x$"
    (line,) = lines_of(text_of(rows), "Refused")
    assert line["reason"] == (
        r"no \<b\>such\</b\> \| index_type \* \[x\](y) \`code\` \_so\_ next line"
    )
    report_written(rows, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<b>such" not in page


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([row("build", FLAT, refused="no")], id="all refused"),
        pytest.param([build(FLAT, None)], id="a build alone, its memory unseen"),
        pytest.param([point(HNSW, {"ef": 96}, lost=None)], id="no truths, no build"),
        pytest.param(
            [point(HNSW, {"ef": 96}, throughput=[], batches=[])], id="one client's latency alone"
        ),
        pytest.param([floor(HNSW, {"ef": 96})], id="an engine alone"),
        pytest.param([study("scale", {"items": 10}, {"p50": 1.0})], id="a study alone"),
        pytest.param(
            [point(FLAT, {}, found=0.0, lost=0.0, rate=1.0, p99=1.0)], id="nothing is found"
        ),
    ],
)
def test_whatever_is_missing_the_report_is_written(rows: list[Row], tmp_path: Path) -> None:
    assert all(file.stat().st_size for file in report_written(rows, tmp_path / "new" / "folder"))


def test_the_server_is_named_by_the_row_that_knows_its_version() -> None:
    rows = [point(HNSW, {"ef": 96}), floor(HNSW, {"ef": 96})]
    rows[1]["provenance"]["server"]["version"] = ""
    text = text_of(rows)
    assert "Milvus v2.3.5 (local); k 50; 2 cores, 15.6 GiB." in text
    shown = [line["value"] for line in lines_of(text, "Machine, versions, data")]
    assert "" not in shown


def test_every_version_of_the_server_is_named() -> None:
    rows = [point(HNSW, {"ef": 96}), point(HNSW, {"ef": 128})]
    rows[1]["provenance"]["server"]["version"] = "v2.4.0"
    assert "Milvus v2.3.5 (local), v2.4.0 (local); k 50;" in text_of(rows)


def test_lists_of_several_lengths_are_not_mixed() -> None:
    rows = [
        point(FLAT, {}, found=1.0, rate=100.0),
        point(FLAT, {}, found=1.0, rate=200.0, k=10),
        point(HNSW, {"ef": 96}, rate=800.0),
        point(HNSW, {"ef": 96}, rate=1200.0, k=10),
    ]
    seen = view(rows)
    settings = [advice.setting for advice in advise(seen)]
    assert settings == [f"HNSW M 16, efConstruction 200, ef 96 (k {k})" for k in (50, 10)]
    assert [seen.times_flat(each) for each in seen.points] == [1.0, 1.0, 8.0, 6.0]
    assert "index_recall@k" in lines_of(text_of(rows), "")[0]


def test_of_two_rows_of_one_setting_the_later_counts() -> None:
    seen = view([point(HNSW, {"ef": 96}, p99=1.0), point(HNSW, {"ef": 96}, p99=2.0)])
    assert [each.latency.p99 for each in seen.points] == [2.0]


def test_the_pareto_front_holds_what_nothing_beats() -> None:
    #            beaten by (3, 5)       beaten by (2, 7)
    points = [(1.0, 9.0), (3.0, 4.0), (2.0, 7.0), (2.0, 6.0), (3.0, 5.0)]
    assert pareto(points) == [(1.0, 9.0), (2.0, 7.0), (3.0, 5.0)]


def test_builds_of_a_type_look_different_in_grey() -> None:
    indexes = [{"type": "HNSW", "M": links, "efConstruction": 200} for links in range(4, 16)]
    seen = view([point(index, {"ef": 96}) for index in indexes])
    found = styles_of(seen.points).values()
    looks = {(look.marker, look.is_open, str(look.line)) for look in found}
    assert len(looks) == len(indexes) == 12


def test_the_number_of_clients_is_that_with_the_most_users_a_second() -> None:
    loads = [clients(1, 400.0), clients(2, 700.0), clients(4, 650.0)]
    (only,) = view([point(HNSW, {"ef": 96}, throughput=loads)]).points
    assert (only.best_clients, only.users_per_second(), only.users_per_second(1)) == (
        2,
        700.0,
        400.0,
    )


def test_nothing_measured_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing was measured yet"):
        report_written([], tmp_path)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"report\.html: cannot be written"):
        report_written([point(HNSW, {"ef": 96})], tmp_path / "file")
    (tmp_path / "taken" / "report.md").mkdir(parents=True)
    with pytest.raises(UserError, match=r"report\.md: cannot be written"):
        report_written([point(HNSW, {"ef": 96})], tmp_path / "taken")
    assert [file.name for file in (tmp_path / "taken").glob(".*")] == []
