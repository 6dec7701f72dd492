# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What an index costs in the ten best after ranking, against the ranker itself and by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from rows_for_report import FLAT, HNSW, Row, build, point, results, view

from paddlerec_milvus.bench.cli import main
from paddlerec_milvus.bench.measure_ranking import TOP, RankingMeter
from paddlerec_milvus.bench.report.document import as_markdown, report_of
from paddlerec_milvus.bench.report.plots_svg import charts
from paddlerec_milvus.bench.report.write import csv_line
from paddlerec_milvus.bench.results_file import RESULT, ResultsFile, line_of
from paddlerec_milvus.bench.sweep_config import SweepConfig
from paddlerec_milvus.bench.sweep_runner import SweepRunner
from paddlerec_milvus.bench.workload import Truths, Workload, WorkloadRanker
from paddlerec_milvus.ranking.channels import VectorHits
from paddlerec_milvus.ranking.features import FEATURES
from paddlerec_milvus.retrieval.base import MISSING_ID, MISSING_SCORE, Neighbours
from paddlerec_milvus.retrieval.candidates import search_users
from paddlerec_milvus.retrieval.exact import ExactRetriever

sys.path.append(str(Path(__file__).resolve().parent.parent / "ranking"))

from small_ranking import ITEMS, VECTORS, ScoreOnly, interests, model_of

USERS, MAXLEN = 12, 3
RANKER = WorkloadRanker(model_of(ScoreOnly()), MAXLEN)


def workload(ranker: WorkloadRanker | None = RANKER) -> Workload:
    """Users of five random clicks, who clicked two more."""
    clicks = np.random.default_rng(5).integers(1, ITEMS, size=(USERS, 7))
    return Workload(
        "small",
        VECTORS[1:],
        np.arange(1, ITEMS),
        np.stack([interests(seed) for seed in range(USERS)]),
        "IP",
        Truths(2 * np.arange(USERS + 1), clicks[:, 5:].ravel()),
        list(clicks[:, :5]),
        ranker,
    )


class OfInterests(ScoreOnly):
    """The order of the interests' channel alone; what it lacks comes last."""

    def scores(
        self,
        rows: NDArray[np.float32],
        items: NDArray[np.int64] | None = None,
        history: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        ranks = rows[:, FEATURES.index("interest_rank")]
        return np.where(np.isnan(ranks), -1e6, -ranks).astype(np.float32)


class Missing(ExactRetriever):
    """An index that never finds the items from ``first`` on."""

    first = 20

    def search(
        self, queries: NDArray[np.float32], k: int, *, filter: str = "", consistency=None
    ) -> Neighbours:
        ids, scores = super().search(queries, k)
        lost = ids >= self.first
        return Neighbours(np.where(lost, MISSING_ID, ids), np.where(lost, MISSING_SCORE, scores))


def test_exact_search_loses_nothing_and_its_lists_are_the_rankers():
    work = workload()
    exact = ExactRetriever(work.vectors, work.ids, "IP")
    meter = RankingMeter(work, RANKER)
    ranked = meter.quality(exact)
    assert (ranked.top_n, ranked.overlap.mean) == (TOP, 1)
    assert ranked.relevance.index == ranked.relevance.exact
    assert ranked.relevance.loss.ndcg.model_dump() == dict.fromkeys(
        ("mean", "low", "high", "relative"), 0
    )
    for row, history in enumerate(work.histories):
        found = search_users(exact, work.interests[[row]], 200, [history])
        hits = VectorHits.of(*(part[0] for part in found))
        best = RANKER.model.rank(
            history[-MAXLEN:], work.interests[row], hits, set(history.tolist()), TOP
        )
        assert meter.lists(exact)[row].tolist() == best.items.tolist()
        assert not set(best.items.tolist()) & set(history.tolist())


def test_what_an_index_misses_is_lost_where_the_ranker_goes_by_it():
    work = workload()
    ranker = WorkloadRanker(model_of(OfInterests()), MAXLEN)
    meter, narrow = RankingMeter(work, ranker), Missing(work.vectors, work.ids, "IP")
    exact_lists, lists = (
        meter.lists(one) for one in (ExactRetriever(work.vectors, work.ids, "IP"), narrow)
    )
    ranked = meter.quality(narrow)
    shares = [
        len(set(ours) & set(exact)) / TOP
        for ours, exact in zip(lists.tolist(), exact_lists.tolist(), strict=True)
    ]
    assert ranked.overlap.mean == pytest.approx(np.mean(shares))
    assert 0 < ranked.overlap.mean < 1
    lost = ranked.relevance.loss.recall
    assert lost.mean == pytest.approx(ranked.relevance.exact.recall - ranked.relevance.index.recall)
    assert lost.low <= lost.mean <= lost.high
    # other channels have the lost items, too: a ranker of scores alone does not need the search
    assert RankingMeter(work, RANKER).quality(narrow).overlap.mean == 1


def ranked_row(index: Row, search: Row, lost: float) -> Row:
    """A point at 0.2 (recall) and 0.1 (ndcg) for exact search, which lost this share of them."""
    exact = {"recall": 0.2, "ndcg": 0.1, "ndcg_hits": 0.5, "hitrate": 0.6}
    return point(index, search) | {
        "ranked": {
            "top_n": 10,
            "overlap": {"mean": 1 - lost, "se": 0.002},
            "relevance": {
                "exact": exact,
                "index": {name: value * (1 - lost) for name, value in exact.items()},
                "loss": {
                    name: {
                        "mean": value * lost,
                        "low": value * (lost - 0.01),
                        "high": value * (lost + 0.01),
                        "relative": lost,
                    }
                    for name, value in exact.items()
                },
            },
        }
    }


def test_a_report_shows_what_is_lost_after_ranking_and_only_then():
    rows = [build(FLAT), point(FLAT, {}), build(HNSW), ranked_row(HNSW, {"ef": 50}, 0.03)]
    shown = view(rows)
    text = as_markdown(report_of(shown))
    line = "0.9700 ± 0.0020 |         19.40 | 3.00 (2.00 to 4.00) |"
    assert " ".join(line.split()) in " ".join(text.split())
    assert "ranked ndcg@10 lost, % of it" in text.partition("## ")[0]
    assert "Ranked relevance lost against index_recall" in {chart.title for chart in charts(shown)}
    flat, hnsw = (csv_line(shown, one) for one in shown.points)
    assert "ranked_ndcg" not in flat
    assert hnsw["ranked_ndcg"] == pytest.approx(0.097)
    assert hnsw["ranked_ndcg_lost_relative_high"] == pytest.approx(0.04)
    assert (
        RESULT.validate_json(line_of(shown.rows[-1]).replace('"schema": 2, ', ""))
        == results(rows)[-1]
    )

    plain = view([build(FLAT), point(FLAT, {})])
    assert "ranked" not in as_markdown(report_of(plain))
    assert "Ranked" not in " ".join(chart.title for chart in charts(plain))


@pytest.mark.slow
def test_a_sweep_that_ranks_measures_again_what_was_not_ranked(tmp_path):
    sweep = SweepConfig(
        name="small",
        data={"checkpoint": {"name": "small"}},
        server="lite",
        k=5,
        indexes=[{"type": "IVF_FLAT", "build": {"nlist": 4}, "search": {"nprobe": [4]}}],
        measure={"requests": 2, "warm_up": 0, "clients": [1], "seconds": 0.01, "batches": []},
    )
    for ranker in (None, RANKER, RANKER):
        with ResultsFile(tmp_path / "out") as rows:
            SweepRunner(sweep, workload(ranker), rows)()
            kinds = [row.kind for row in rows.rows]
            last = rows.rows[-1].measured.quality.ranked
        assert (last is None) == (ranker is None)
    assert kinds == ["build", "point", "point"]
    assert last.overlap.mean == 1


def test_a_sweep_ranks_a_checkpoint_alone(tmp_path: Path, capsys):
    file = tmp_path / "mine.yaml"
    data = {"items": 30, "dimension": 4, "users": 3, "interests": 2, "clusters": 5}
    file.write_text(yaml.safe_dump({"data": {"synthetic": data}, "indexes": [{"type": "FLAT"}]}))
    assert main(["-s", str(file), "--rank"]) == 2
    assert "rank: synthetic vectors have no ranker" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "best/ranking: no ranker was trained for this checkpoint: python tools/rank.py"),
        (["retrieval.metric=L2"], "retrieval.metric is L2: ranking wants IP"),
        (["runner.test_data_dir={data}/valid"], "/valid: the ranker learned from these very users"),
    ],
)
def test_without_a_ranker_the_sweep_says_how_to_train_one(
    trained, tmp_path: Path, capsys, options, said
):
    file = tmp_path / "mine.yaml"
    checkpoint = {
        "name": "mine",
        "folder": str(trained.data),
        "options": [
            f"runner.infer_load_path={trained.checkpoints}",
            *(option.format(data=trained.data) for option in options),
        ],
    }
    sweep = {"data": {"checkpoint": checkpoint}, "rank": True, "indexes": [{"type": "FLAT"}]}
    file.write_text(yaml.safe_dump(sweep))
    assert main(["-s", str(file), "--plan"]) == 2
    assert said in capsys.readouterr().err
