# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""scale.py: streamed vectors, rows that stay, fits that know their error, the plan, the page."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scale
from scale_study.checks import checks_of
from scale_study.fit import ScaleFit, ScalePoint, build_terms
from scale_study.measuring import affordable, least, part_of, require_memory, searched
from scale_study.page import renewed, tables
from scale_study.plan import plan_of, plan_table
from scale_study.rows import ScaleCase, ScaleResults, ScaleRow, TunedSearch, usual_build
from scale_study.settings import PLAN_SETTINGS, PlanSettings
from scale_study.vectors import BLOCK, VectorStream, exact_neighbours
from support import ROOT

from paddlerec_milvus.bench.load_results import LatencySummary, Throughput
from paddlerec_milvus.bench.measure_search import merged
from paddlerec_milvus.bench.results import (
    BuildMeasurement,
    IndexRecall,
    MeanWithError,
    SearchMeasurement,
    SearchQuality,
    SegmentInfo,
)
from paddlerec_milvus.bench.results_file import ResultsError
from paddlerec_milvus.bench.tuner import ladder_of
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.indexes import IvfFlat

SIZES = (100_000, 370_000, 1_000_000, 3_000_000, 10_000_000)
PAGES = {"scale.md": "en", "scale.zh.md": "zh"}


def case_for(items: int, dimension: int, kind: str = "HNSW", **changed: Any) -> ScaleCase:
    index = {"type": kind, **usual_build(kind, items, dimension), **changed}
    return ScaleCase(items=items, dimension=dimension, index=index)


def row_of(case: ScaleCase, *, noise: float = 1.0, **changed: Any) -> ScaleRow:
    """A row that obeys a law: 220 MiB and 300 bytes a row and the index, power laws, linear p50."""
    millions = case.items / 1e6
    segments = max(1, round(case.items * case.dimension / 128e6))
    key, value = ("ef", 50 + 8 * millions) if case.type == "HNSW" else ("nprobe", 20.0)
    work = segments * value * np.log2(case.items / segments) / 1e3
    p50 = 2 + 0.5 * work + 0.01 * work * case.dimension
    recall = MeanWithError(mean=0.96)
    latency = LatencySummary(
        requests=1000,
        failures=0,
        p50=p50 * noise,
        p95=9,
        p99=9,
        p99_9=9,
        mean=3,
        max=9,
        histogram="",
    )
    build = BuildMeasurement(
        insert_seconds=9 * millions,
        compact_seconds=0,
        index_seconds=150 * millions**1.1 * (case.dimension / 64) ** 0.6,
        load_seconds=2,
        rows=case.items,
        segments=[SegmentInfo(rows=case.items // segments, indexed=True)] * segments,
        rss_mib=(220 + 286 * millions + case.formula_mib) * noise,
        disk_mib=50 + 143 * millions + case.raw_mib + case.formula_mib,
        estimate_mib=case.formula_mib,
        warnings=[],
    )
    measured = SearchMeasurement(
        quality=SearchQuality(index_recall=IndexRecall(interest=recall, list=recall)),
        latency=latency,
        warnings=[],
        throughput=[
            Throughput(clients=n, users_per_second=100 * n, runs=[], failures=0, p50=1, p99=2)
            for n in (4, 16)
        ],
        batches=[],
        open_loop=[],
    )
    row = ScaleRow(
        key=case.key,
        case=case,
        build=build,
        peak_rss_mib=None,
        tuned=TunedSearch(params={key: value}, users=200, index_recall=0.96, met=True),
        measured=measured,
        relevance="not measured: index_recall only",
        exact_seconds=1,
        seconds=60,
        load_before=0.1,
        machine={},
        versions={},
        time="2026-11-29T12:00:00+00:00",
    )
    return row.model_copy(update=changed)


def rows_for(kind: str = "HNSW") -> list[ScaleRow]:
    return [row_of(case_for(items, dim, kind)) for items, dim in product(SIZES, (64, 128))]


class TestVectors:
    def test_a_smaller_catalogue_is_the_start_of_a_larger(self) -> None:
        small, large = (VectorStream(n, 8, 5, 0.7, 1) for n in (500, BLOCK + 300))
        start = next(small.blocks()).vectors
        blocks = list(large.blocks())
        assert [rows.size for rows in blocks] == [BLOCK, 300]
        assert blocks[1].ids[[0, -1]].tolist() == [BLOCK + 1, BLOCK + 300]
        np.testing.assert_array_equal(blocks[0].vectors[:500], start)
        np.testing.assert_allclose(np.linalg.norm(start, axis=1), 1, rtol=1e-5)
        assert large.seconds > 0

    def test_exact_lists_are_those_of_all_blocks_at_once(self) -> None:
        stream = VectorStream(BLOCK + 2_000, 8, 5, 0.7, 1)
        whole = np.concatenate([rows.vectors for rows in stream.blocks()])
        _, known = stream.interests(3, 2)
        truth = ExactRetriever(whole, np.arange(1, len(whole) + 1)).search(known.reshape(-1, 8), 7)
        mine = exact_neighbours(stream, known.reshape(-1, 8), 7)
        np.testing.assert_array_equal(mine.ids, truth.ids)

    def test_clicks_are_planted_in_small_catalogues_alone(self) -> None:
        case = case_for(10_000, 8, "FLAT").model_copy(update={"users": 20})
        stream = VectorStream(case.items, 8, case.clusters, case.spread, case.seed)
        workload, exact = searched(case, stream)
        assert workload.truths is not None
        assert 0.1 < exact.relevance["recall@50"].mean() <= 1
        some = np.array([3, 7])
        part = part_of(exact, workload, workload.take(some), some)
        np.testing.assert_array_equal(part.lists.ids, exact.lists.ids[some])
        np.testing.assert_array_equal(merged(part.neighbours, 2).ids, part.lists.ids)


class TestRows:
    def test_kept_and_replaced(self, tmp_path: Path) -> None:
        file = tmp_path / "scale.json"
        first, again = row_of(case_for(100_000, 64)), row_of(case_for(100_000, 64), seconds=61)
        other = row_of(case_for(100_000, 64, M=32))
        results = ScaleResults.read(file).with_row(first).with_row(other).with_row(again)
        results.write(file)
        kept = ScaleResults.read(file)
        assert kept == results
        assert sorted(row.seconds for row in kept.rows) == [60, 61]
        assert first.key in kept
        assert case_for(100_000, 128).key not in kept

    def test_a_file_of_something_else(self, tmp_path: Path) -> None:
        file = tmp_path / "scale.json"
        file.write_text('{"format": 7}')
        with pytest.raises(ResultsError, match=r"is no file of benchmarks/scale\.py"):
            ScaleResults.read(file)

    def test_what_is_measured_is_not_measured_again(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "scale.json"
        ScaleResults().with_row(row_of(case_for(100_000, 64))).write(file)
        assert scale.main(["--items", "100000", "--index", "HNSW", "--out", str(file)]) == 0
        assert "--again measures it anew" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ([], "give a size, --items N"),
            (["--items", "500"], "--items 500: at least 10,000"),
            (["--items", "10000", "--index", "HNWS"], "'HNWS' is not known (did you mean 'HNSW'?)"),
            (["--items", "10000", "--build", "M=x"], "--build M=x: expected KEY=N"),
            (["--items", "4000000000", "--index", "HNSW"], "GiB while it is built"),
        ],
    )
    def test_mistakes(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
    ) -> None:
        assert scale.main([*words, "--out", str(tmp_path / "none.json")]) == 2
        assert said in capsys.readouterr().err

    def test_what_does_not_fit_is_refused_before_it_is_made(self) -> None:
        require_memory(case_for(10_000, 8))
        with pytest.raises(SettingsError, match=r"may take .* GiB while it is built"):
            require_memory(case_for(10**11, 8))


def test_the_least_setting() -> None:
    assert [least(lambda n, low=low: n >= low, 9) for low in (0, 4, 9, 99)] == [0, 4, 9, 9]
    ladder = affordable(ladder_of(IvfFlat(nlist=100, nprobe=1), 50))
    assert max(index.nprobe for index in ladder) == 25  # type: ignore[attr-defined]


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

    def test_a_larger_catalogue_has_more_segments(self) -> None:
        fit = ScaleFit.of(rows_for())
        segments = {dim: fit.point(case_for(10**8, dim)).segments for dim in (64, 128)}
        assert segments == {64: 50, 128: 100}
        assert fit.point(case_for(10**8, 64)).search > 130

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
    assert "| 10,000,000 x 128 | HNSW M 16, efConstruction 200, ef 130" in text
    assert json.dumps(text).count("<!-- end -->") == 3
    with pytest.raises(SettingsError, match="no '<!-- scale -->'"):
        renewed("nothing", made)
