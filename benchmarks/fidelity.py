# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Do others measure what we measure? The same vectors, index and server, measured three ways.

    python benchmarks/fidelity.py -s benchmarks/sweeps/amazon_size.yaml --ann-benchmarks DIR

Ours: what benchmarks/index_benchmark.py runs. A loop of raw pymilvus calls, written apart, with
truths from FAISS. And ann-benchmarks' own run_individual_query and recall, from a checkout (which
needs `pip install ansicolors docker jinja2`), on single vectors. All in this process, one client,
by turns. Exit code 1 when index_recall differs by more than 0.002 or throughput by more than 10 %.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pymilvus import MilvusClient
from tabulate import tabulate

from paddlerec_milvus.bench.client_pool import Load, calls_of, run_load
from paddlerec_milvus.bench.measure_build import BenchServer
from paddlerec_milvus.bench.measure_search import exact_of, quality_of
from paddlerec_milvus.bench.sweep_config import load_workload, read_sweep
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.command import run
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.evaluation.report import machine, versions, write_json
from paddlerec_milvus.retrieval.indexes import Index, index_from_settings
from paddlerec_milvus.retrieval.milvus import MilvusRetriever

RECALL, RATE = 0.002, 0.10  # that the ways may differ by
Way = Callable[[], tuple[float, float]]  # index_recall and calls a second


def ours(retriever: MilvusRetriever, index: Index, work: Workload, k: int) -> Way:
    """As a point of a sweep is measured."""
    exact = exact_of(work, k)

    def measure() -> tuple[float, float]:
        quality = quality_of(work, exact, retriever.search_with(index, work.queries, k))
        calls = calls_of(work.interests, Load(index, k))
        outcome = run_load(
            lambda queries: retriever.search_with(index, queries, k),
            calls,
            Load(index, k, len(calls)),
        )
        return quality.index_recall.interest.mean, outcome.rate

    return measure


def raw(client: MilvusClient, collection: str, index: Index, work: Workload, k: int) -> Way:
    """pymilvus and FAISS alone."""
    import faiss

    flat = faiss.IndexFlatIP(work.vectors.shape[1])
    flat.add(work.vectors)
    _, rows = flat.search(work.queries, k)
    truths = [set(line) for line in work.ids[rows].tolist()]
    users = [list(user) for user in work.interests]
    params = {"metric_type": work.metric, "params": index.search_params(k)}

    def measure() -> tuple[float, float]:
        lists: list[list[int]] = []
        began = time.perf_counter()
        for vectors in users:
            hits = client.search(collection, vectors, limit=k, search_params=params)
            lists.extend([hit["id"] for hit in query_hits] for query_hits in hits)
        seconds = time.perf_counter() - began
        exact = sum(len(truth & set(ids)) for truth, ids in zip(truths, lists, strict=True))
        return exact / (k * len(truths)), len(users) / seconds

    return measure


def ann_benchmarks(
    checkout: Path, client: MilvusClient, collection: str, index: Index, work: Workload, k: int
) -> Way:
    """Its loop and its recall on single vectors; a candidate's score is its own cosine distance."""
    sys.path.insert(0, str(checkout))
    from ann_benchmarks.plotting.metrics import get_recall_values, knn_threshold
    from ann_benchmarks.runner import run_individual_query

    params = {"metric_type": work.metric, "params": index.search_params(k)}
    exact = exact_of(work, k)
    truths = 1 - np.sort(exact.neighbours.scores, axis=1)[:, ::-1]

    class Milvus:
        def query(self, vector: Any, n: int) -> list[int]:
            (hits,) = client.search(collection, [vector], limit=n, search_params=params)
            return [hit["id"] - 1 for hit in hits]

        def get_additional(self) -> dict[str, Any]:
            return {}

    def measure() -> tuple[float, float]:
        about, results = run_individual_query(
            Milvus(), work.vectors, work.queries, "angular", k, 1, False
        )
        distances = [sorted(distance for _, distance in hits) for _, hits in results]
        recall, _, _ = get_recall_values(truths, distances, k, knn_threshold, epsilon=1e-6)
        return float(recall), 1 / about["best_search_time"]

    return measure


def compare(ways: dict[str, Way], repetitions: int) -> dict[str, tuple[float, float]]:
    """The median of each way, measured by turns."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repetitions):
        for name, measure in ways.items():
            seen[name].append(measure())
    return {name: tuple(np.median(runs, axis=0).tolist()) for name, runs in seen.items()}


def main() -> int:
    """Measure, print, and say whether it agrees."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("-s", "--sweep", type=Path, required=True, metavar="YAML", help="its data and k are used")
    add("--index", default="HNSW M=16 efConstruction=200 ef=100", help="(%(default)s)")
    add("--ann-benchmarks", type=Path, metavar="DIR", help="a checkout")
    add("--users", type=int, default=1_000, metavar="N", help="(1,000)")
    add("--repetitions", type=int, default=5, metavar="N", help="of each way (5)")
    add("--json", type=Path, metavar="FILE", help="all figures")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    return run(lambda: rows.extend(_measured(arguments))) or int(
        not all(row["agrees"] for row in rows)
    )


def _measured(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    sweep = read_sweep(arguments.sweep)
    index = _index(arguments.index)
    work = load_workload(sweep)
    work = work.take(np.arange(min(arguments.users, len(work.interests))))
    single = replace(
        work, interests=work.queries[: arguments.users, None], truths=None, histories=()
    )
    if work.metric != "IP" or not np.allclose(np.linalg.norm(work.vectors, axis=1), 1, atol=1e-3):
        raise SettingsError("the comparison needs normalised vectors and metric IP")
    with ExitStack() as stack:
        place = stack.enter_context(
            BenchServer("local", Path(stack.enter_context(TemporaryDirectory())))
        )
        target = place.target(work.metric, index)
        retriever = stack.enter_context(target.connect())
        retriever.versions.build(work.vectors, work.ids)
        client = MilvusClient(place.uri)
        reference = (client, target.collection, index)
        pairs = {
            "a user of several interests": (
                ours(retriever, index, work, sweep.k),
                {"raw pymilvus, FAISS": raw(*reference, work, sweep.k)},
            ),
            "single vectors": (
                ours(retriever, index, single, sweep.k),
                {"raw pymilvus, FAISS": raw(*reference, single, sweep.k)}
                | (
                    {
                        "ann-benchmarks": ann_benchmarks(
                            arguments.ann_benchmarks.resolve(), *reference, single, sweep.k
                        )
                    }
                    if arguments.ann_benchmarks
                    else {}
                ),
            ),
        }
        rows = []
        for queries, (own, others) in pairs.items():
            medians = compare({"ours": own, **others}, arguments.repetitions)
            base = medians["ours"]
            for name, (recall, rate) in medians.items():
                near = abs(recall - base[0]) <= RECALL and abs(rate / base[1] - 1) <= RATE
                rows.append(
                    {
                        "asked": queries,
                        "by": name,
                        "index_recall": recall,
                        "calls/s": rate,
                        "of ours": rate / base[1],
                        "agrees": near,
                    }
                )
    print(tabulate(rows, headers="keys", floatfmt=".4f", tablefmt="github"))
    if arguments.json:
        about = {"index": arguments.index, "k": sweep.k, "data": work.described()}
        about |= {"machine": machine(), "versions": versions(), "rows": rows}
        write_json(about, arguments.json, "--json")
    return rows


def _index(text: str) -> Index:
    type_name, *pairs = text.split()
    return index_from_settings(type_name, {k: int(v) for k, v in (p.split("=") for p in pairs)})


if __name__ == "__main__":
    sys.exit(main())
