# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""scale.py: fits that know their error, the rows that they rest on, the plan, the page."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import scale
from scale_rows import SIZES, case_for, row_of, rows_for, unusual_rows
from scale_study.checks import checks_of
from scale_study.fit import ScaleFit, ScalePoint, build_terms, full_segments
from scale_study.page import PAGES, renewed, tables
from scale_study.plan import ROW_NOTES, plan_of, plan_table
from scale_study.rows import ScaleResults, exclusion_note
from scale_study.settings import PLAN_SETTINGS, PlanSettings
from support import ROOT

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.indexes import DiskAnn
from paddlerec_milvus.retrieval.memory_estimate import estimate_mib


class TestUnusualRows:
    settings = PlanSettings.read(PLAN_SETTINGS)

    def test_take_no_part_in_fit_plan_and_page(self) -> None:
        usual, mixed = rows_for(), [*unusual_rows(), *rows_for()]
        assert checks_of(mixed) == checks_of(usual)
        assert plan_of(mixed, self.settings) == plan_of(usual, self.settings)
        assert tables(mixed, self.settings, "en") == tables(usual, self.settings, "en")

    def test_other_cells_are_another_build(self) -> None:
        case = case_for(1_000_000, 64, "IVF_SQ8")
        assert case.unusual == ()
        assert case_for(1_000_000, 64, "IVF_SQ8", nlist=1_000).unusual == ("build",)

    def test_a_line_says_how_many_and_why(self) -> None:
        assert exclusion_note(rows_for()) == ""
        assert exclusion_note([*rows_for(), *unusual_rows()]) == (
            "left out of fit, plan and page: 7 of 17 rows, which are not of the usual case "
            "(other build: 1, other build and target: 1, other k: 1, other measure: 1, "
            "other seed: 1, other target: 1, other users: 1)"
        )

    @pytest.mark.parametrize("step", ["--fit", "--plan"])
    def test_the_line_is_printed_before(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], step: str
    ) -> None:
        file = tmp_path / "scale.json"
        ScaleResults(rows=[*rows_for(), *unusual_rows()]).write(file)
        assert scale.main([step, "--out", str(file)]) == 0
        first = capsys.readouterr().out.partition("\n")[0]
        assert first.startswith("left out of fit, plan and page: 7 of 17 rows")


class TestFit:
    def test_finds_a_law_and_says_how_far_off_it_is(self) -> None:
        checks = checks_of(rows_for())
        assert {(check.left_out, check.items) for check in checks} == {
            ("largest", 10_000_000),
            ("inner", 1_000_000),
        }
        assert max(abs(check.error) for check in checks) < 0.01
        assert all(check.holds for check in checks)

    def test_a_bar_that_is_missed(self) -> None:
        rows = rows_for()
        rows[-1] = row_of(rows[-1].case, noise=1.5)
        missed = [check for check in checks_of(rows) if not check.holds]
        assert {(c.quantity, c.items, c.dimension) for c in missed} >= {
            ("memory, MiB", 10_000_000, 128),
            ("p50, ms", 10_000_000, 128),
        }

    def test_one_dimension_is_enough(self) -> None:
        rows = [row for row in rows_for() if row.case.dimension == 64]
        assert all(check.holds for check in checks_of(rows))

    def test_the_size_left_out_lends_the_fit_no_search_parameter_and_no_segments(self) -> None:
        rows = rows_for()
        other = [
            row.model_copy(
                update={
                    "tuned": row.tuned.model_copy(update={"params": {"ef": 999}}),
                    "build": row.build.model_copy(update={"segments": row.build.segments * 3}),
                }
            )
            for row in rows
            if row.case.items == SIZES[-1]
        ]
        fitted: list[list[float]] = []
        for largest in (rows[-2:], other):
            checks = checks_of([*rows[:-2], *largest])
            fitted.append([check.fitted for check in checks if check.left_out == "largest"])
        assert fitted[0] == fitted[1]
        # 100 * 10^0.2 at 10 M x 64, in segments of 512 MiB at 4 * 64 + 536 bytes a row
        point = ScaleFit.of(rows[:-2]).point(rows[-2].case)
        assert point.search == pytest.approx(100 * 10**0.2)
        assert point.segments == 15

    def test_measured_catalogues_had_full_segments(self) -> None:
        rows = ScaleResults.read(scale.OUT).rows
        more = [row.segments - full_segments(row.case) for row in rows]
        # of 10 M x 64 with HNSW the last 100,000 rows had one of their own
        assert set(more) <= {0, 1}
        assert sum(more) <= 1

    def test_a_larger_catalogue_has_more_segments(self) -> None:
        fit = ScaleFit.of(rows_for())
        segments = {dim: fit.point(case_for(10**8, dim)).segments for dim in (64, 128)}
        assert segments == {64: 148, 128: 196}
        assert fit.point(case_for(10**8, 64)).search == pytest.approx(100 * 100**0.2)

    def test_nprobe_grows_with_the_cells_and_stops_with_them(self) -> None:
        fit = ScaleFit.of(rows_for("IVF_SQ8"))
        cases = [case_for(items, 64, "IVF_SQ8") for items in (200_000, 10**7, 10**8, 10**9)]
        # 0.5 % of int(4 sqrt(200,000)) = 1,788 cells, and of 4,096 from 1.05 M rows on
        assert [fit.point(case).search for case in cases] == pytest.approx([8.94, *[20.48] * 3])

    def test_too_few_sizes(self) -> None:
        with pytest.raises(SettingsError, match="needs 3 sizes"):
            checks_of(rows_for()[:4])

    def test_denser_graphs_take_longer_to_build(self) -> None:
        fit = ScaleFit.of(rows_for())
        lean, dense = (
            fit.value("build, s", ScalePoint(case_for(10**6, 64, M=links), 1, 50))
            for links in (16, 32)
        )
        assert dense == pytest.approx(2 * lean)
        assert build_terms(ScalePoint(case_for(10**6, 64), 1, 50))[0] == 1


class TestPlan:
    settings = PlanSettings.read(PLAN_SETTINGS)

    def test_every_figure_says_where_it_comes_from(self) -> None:
        lines = plan_of([*rows_for(), *rows_for("IVF_SQ8")[:6]], self.settings)
        sizes = {(line.items, line.dimension) for line in lines}
        assert sizes == set(product((10**7, 10**8, 10**9), (64, 128)))
        by_place = {(line.items, line.dimension, line.index.split()[0]): line for line in lines}
        ten, large = by_place[10**7, 64, "HNSW"], by_place[10**9, 64, "HNSW"]
        row = next(r for r in rows_for() if (r.case.items, r.case.dimension) == (10**7, 64))
        assert ten.memory_gib == (row.build.rss_mib / 1024, "measured")  # type: ignore[operator]
        assert ten.p50_ms == (row.measured.latency.p50, "measured")
        assert large.memory_gib.origin == "fitted"
        assert large.memory_gib.value == pytest.approx(100 * ten.memory_gib.value, rel=0.05)
        assert large.nodes == np.ceil(large.memory_gib.value / self.settings.usable_gib)
        assert by_place[10**9, 64, "DISKANN"].memory_gib.origin == "quoted"
        assert sum(line.chosen for line in lines) <= len(sizes)
        assert re.search(r"10 M x 64 .* m ", plan_table(lines))

    def test_diskann_keeps_what_every_row_has_beside_its_vector(self) -> None:
        lines = [line for line in plan_of(rows_for(), self.settings) if line.index == "DISKANN"]
        for line in lines:
            mib = estimate_mib(DiskAnn(), line.items, line.dimension)
            assert line.memory_gib.value == pytest.approx(mib / 1024)
            nodes = np.ceil(line.memory_gib.value / self.settings.usable_gib)
            assert line.nodes == nodes * self.settings.replicas
        # 10 M rows of 256 * (0.125 + 0.1) + 150 = 207.6 bytes
        assert lines[0].memory_gib.value == pytest.approx(2.076e9 / 2**30)
        for language in PAGES.values():
            assert "150" in ROW_NOTES[language]
            assert ROW_NOTES[language] in tables(rows_for(), self.settings, language)["scale_plan"]

    def test_small_sizes_say_nothing_of_large_ones(self) -> None:
        small = [row for row in rows_for() if row.case.items < 1_000_000]
        with pytest.raises(SettingsError, match=r"at least 1,000,000"):
            plan_of(small, self.settings)

    def test_every_quoted_figure_has_its_words(self) -> None:
        quoted = {quote.figure for quote in self.settings.quotes}
        assert {"loaded_share", "pq_code_share", "search_cache_share", "max_degree"} <= quoted
        for quote in self.settings.quotes:
            value = getattr(self.settings, quote.figure, None)
            shown = {f"{value:g}", f"{100 * value:g}"} if value is not None else {quote.words}
            assert any(words in quote.words for words in shown)

    def test_a_price_that_is_none(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.yaml"
        file.write_text(PLAN_SETTINGS.read_text().replace("memory_usd: 4.0", "memory_usd: -1"))
        with pytest.raises(SettingsError, match=r"mine\.yaml: memory_usd"):
            PlanSettings.read(file)


@pytest.mark.parametrize("page", PAGES)
def test_the_page_has_the_figures_of_the_rows(page: str) -> None:
    rows = ScaleResults.read(scale.OUT).rows
    text = (ROOT / "docs" / "results" / page).read_text(encoding="utf-8")
    assert renewed(text, tables(rows, PlanSettings.read(PLAN_SETTINGS), PAGES[page])) == text


def test_tables_of_a_page() -> None:
    made = tables(rows_for(), PlanSettings.read(PLAN_SETTINGS), "en")
    text = renewed("".join(f"<!-- {name} -->\nstale\n<!-- end -->\n" for name in made), made)
    assert "stale" not in text
    assert "| 10,000,000 x 128 | HNSW M 16, efConstruction 200, ef 195" in text
    assert json.dumps(text).count("<!-- end -->") == 3
    with pytest.raises(SettingsError, match="no '<!-- scale -->'"):
        renewed("nothing", made)


@pytest.mark.parametrize(
    ("language", "own", "missed"),
    [
        ("en", "segments and `ef` or `nprobe` are its own", ("memory {} of 4", "p50 {} of 4")),
        ("zh", "段数和 `ef` 或 `nprobe` 由它自己给出", ("内存 4 次中 {} 次", "p50 4 次中 {} 次")),
    ],
)
def test_the_page_says_how_it_checks(language: str, own: str, missed: tuple[str, ...]) -> None:
    rows, settings = rows_for(), PlanSettings.read(PLAN_SETTINGS)
    odd = [*rows[:-2], *(row_of(row.case, noise=0.5) for row in rows[-2:])]
    for some, counts in ((rows, range(1)), (odd, range(2, 5))):
        note = tables(some, settings, language)["scale_fit"].split("\n\n")[1]
        assert own in note
        assert all(any(words.format(n) in note for n in counts) for words in missed)
