# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""scale.py: streamed vectors, rows that stay, what is refused; the rest: test_scale_fit.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scale
from scale_rows import case_for, row_of
from scale_study.measuring import affordable, least, part_of, require_memory, searched
from scale_study.rows import ScaleResults
from scale_study.vectors import BLOCK, VectorStream, exact_neighbours

from paddlerec_milvus.bench.measure_search import merged
from paddlerec_milvus.bench.results_file import ResultsError
from paddlerec_milvus.bench.tuner import ladder_of
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.indexes import IvfFlat


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
