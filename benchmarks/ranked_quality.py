# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Ten best items before and after ranking, on real logs, over several seeds: see ``--help``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from peers.runs import ROOT, execute
from quality_table.data import DataSet, open_data
from tabulate import tabulate

from paddlerec_milvus.checkpoint import evaluated_checkpoints
from paddlerec_milvus.command import run, settings_for
from paddlerec_milvus.evaluation.evaluator import Evaluation
from paddlerec_milvus.evaluation.metrics import measures_by_user
from paddlerec_milvus.evaluation.report import machine, versions
from paddlerec_milvus.evaluation.statistics import paired_bootstrap
from paddlerec_milvus.retrieval.exact import ExactRetriever

IntArray = npt.NDArray[np.int64]
ByUser = dict[str, npt.NDArray[np.float64]]

MODEL = "mind_unseen/config.yaml"
LENGTHS = (10, 50, 200)
SHOWN = ("ndcg@10", "recall@10", "ndcg@50", "recall@50", "recall@200")
EPILOG = """\
examples:
  python benchmarks/ranked_quality.py --data beauty=datasets/beauty --seeds 1 2 3
  python benchmarks/ranked_quality.py --data sports=datasets/sports --ranker trees --out trees.json

Of each log and seed: tools/trainer.py, tools/rank.py with the same seed, then both orders of the
test users, searched exactly, without the items of their histories. DIR is a folder made by
datasets/amazonbook/prepare.py, or one with a raw interactions.csv. Finished trainings stay in
--work, so an interrupted run goes on where it stopped; other logs in --out stay there."""


class SeedRun:
    """One log, one seed of model and ranker, and the files that its steps leave in ``work``."""

    def __init__(self, data: DataSet, seed: int, ranker: str, work: Path) -> None:
        self.data, self.seed, self.ranker, self.work = data, seed, ranker, work
        self.model = work / "model"
        self.options = [f"runner.seed={seed}", f"runner.model_save_path={self.model}"]
        self.options.append(f"runner.infer_load_path={self.model}")
        self.arguments = ["-m", MODEL, "--data", str(data.folder)]

    def costs(self) -> dict[str, Any]:
        """Train and rank, or what that took before: seconds, peak memory, load meanwhile."""
        record = self.work / "costs.json"
        costs: dict[str, Any] = json.loads(record.read_text()) if record.exists() else {}
        steps = {
            "train": ["-u", "tools/trainer.py", *self.arguments],
            f"rank_{self.ranker}": [
                *("-u", "tools/rank.py", *self.arguments),
                *("--seed", str(self.seed), "--ranker", self.ranker),
            ],
        }
        self.work.mkdir(parents=True, exist_ok=True)
        for name, command in steps.items():
            if name not in costs:
                began = time.perf_counter()
                log = self.work / f"{name}.log"
                _, peak = execute([*command, "-o", *self.options], log, 1)
                seconds = time.perf_counter() - began
                costs[name] = {"seconds": seconds, "peak_mb": peak, "load": os.getloadavg()[1]}
                record.write_text(json.dumps(costs))
        return costs

    def lists(self) -> tuple[IntArray, IntArray]:
        """Unranked and ranked lists [U, 200] of the test users."""
        file = self.work / f"lists_{self.ranker}.npz"
        if not file.exists():
            settings = settings_for(MODEL, self.options, self.data.folder)
            evaluation = Evaluation(settings, exact=True, best=True, rank=True)
            ((_, checkpoint),) = evaluated_checkpoints(settings, best=True)
            evaluation.encoder.load(checkpoint)
            table = evaluation.encoder.item_vectors()
            ids = np.arange(1, len(table), dtype=np.int64)
            exact = ExactRetriever(table[1:], ids, settings.retrieval.metric)
            _, ranked = evaluation.ranked_lists(checkpoint, table, exact)
            np.savez(file, unranked=ranked.unranked, ranked=ranked.ranked)
        with np.load(file) as arrays:
            return arrays["unranked"], arrays["ranked"]


def by_user(lists: IntArray, data: DataSet) -> ByUser:
    """Measures [U] of ``lists`` [U, 200] at each of ``LENGTHS``."""
    users = data.users("test")
    values: ByUser = {}
    for top_n in LENGTHS:
        values |= measures_by_user(lists, users.truth_indptr, users.truths, top_n)
    return values


def result_of(data: DataSet, seeds: Sequence[int], ranker: str, work: Path) -> dict[str, Any]:
    """Means over seeds, their standard errors, and the gain of single users' means over seeds."""
    unranked, ranked, costs = [], [], {}
    for seed in seeds:
        one = SeedRun(data, seed, ranker, work / data.name / str(seed))
        costs[str(seed)] = one.costs()
        before, after = one.lists()
        unranked.append(by_user(before, data))
        ranked.append(by_user(after, data))
    means = {
        name: [{measure: float(values.mean()) for measure, values in run.items()} for run in runs]
        for name, runs in (("unranked", unranked), ("ranked", ranked))
    }
    gain = {}
    for measure in unranked[0]:
        after_, before_ = (
            np.mean([run[measure] for run in runs], axis=0) for runs in (ranked, unranked)
        )
        difference = paired_bootstrap(after_, before_, resamples=2_000)
        gain[measure] = {
            "mean": difference.mean,
            "low": difference.low,
            "high": difference.high,
            "by_seed": [
                after[measure] - before[measure]
                for before, after in zip(means["unranked"], means["ranked"], strict=True)
            ],
        }
    return {
        "ranker": ranker,
        "seeds": list(seeds),
        "users": len(next(iter(ranked[0].values()))),
        "fingerprint": data.fingerprint,
        **{
            name: {one: float(np.mean([run[one] for run in runs])) for one in runs[0]}
            for name, runs in means.items()
        },
        "stderr_over_seeds": {
            name: {
                one: float(np.std([run[one] for run in runs], ddof=1) / np.sqrt(len(runs)))
                if len(runs) > 1
                else None
                for one in runs[0]
            }
            for name, runs in means.items()
        },
        "gain": gain,
        "costs": costs,
    }


def table_of(results: dict[str, Any]) -> str:
    """Per cent before and after, and the interval of the difference."""
    rows = []
    for name, result in results.items():
        cells = []
        for measure in SHOWN:
            gain = result["gain"][measure]
            before, after = result["unranked"][measure], result["ranked"][measure]
            cells.append(
                f"{100 * before:.2f} → {100 * after:.2f} "
                f"({100 * gain['low']:+.2f} … {100 * gain['high']:+.2f}) "
                f"{100 * gain['mean'] / before:+.1f} %"
            )
        rows.append([name, len(result["seeds"]), *cells])
    return tabulate(rows, headers=["log", "seeds", *SHOWN], tablefmt="pipe")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, measure, write; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="What channels and a ranker give, over seeds.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=DIR")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N")
    parser.add_argument("--ranker", choices=("din", "trees"), default="din")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "output_bench" / "ranked", metavar="DIR"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results" / "ranking.json"
    )
    arguments = parser.parse_args(argv)

    def work() -> None:
        folder = arguments.work.resolve()
        for pair in arguments.data:
            data = open_data(pair, folder)
            result = result_of(data, arguments.seeds, arguments.ranker, folder)
            measured = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
            result |= {"machine": machine(), "versions": versions()}
            measured["command"] = "python benchmarks/ranked_quality.py --data NAME=DIR …"
            measured["data"] = {**measured.get("data", {}), data.name: result}
            arguments.out.write_text(json.dumps(measured, indent=1) + "\n")
            print(table_of({data.name: result}))

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
