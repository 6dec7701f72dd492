# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Merging a user's interests in Milvus beside merging them here: the same lists, and at what cost?

    python benchmarks/server_merge.py --json benchmarks/results/server_merge.json

A user's K interests are K requests of one ``hybrid_search``, whose ranker keeps an item's best
score: a decay ranker of no effect on a field that is 0 in all rows (rankers by reciprocal rank or
by weights give other lists). The interest that an item came by is restored by one product. Beside
it one ``search`` with K vectors, merged here, as the service does it. Both on Milvus Lite, by
turns; the packaged server 2.3.5 has no hybrid search.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pymilvus import AnnSearchRequest, DataType, Function, FunctionType, MilvusClient
from tabulate import tabulate

from paddlerec_milvus.command import run
from paddlerec_milvus.evaluation.report import machine, versions, write_json
from paddlerec_milvus.machine_state import MachineRecorder
from paddlerec_milvus.retrieval.base import FloatArray, IntArray
from paddlerec_milvus.retrieval.candidates import Candidates, merge_interests

COLLECTION, METRIC = "server_merge", {"metric_type": "IP"}
NO_EFFECT = 10**12  # the decay begins so far from 0
KEEP_BEST = Function(
    name="best",
    input_field_names=["zero"],
    function_type=FunctionType.RERANK,
    params={
        "reranker": "decay",
        "function": "gauss",
        "origin": 0,
        "scale": NO_EFFECT,
        "offset": NO_EFFECT,
        "decay": 0.5,
        "score_mode": "max",
    },
)


def filled(uri: str, vectors: FloatArray) -> MilvusClient:
    """A client of a new collection with ``vectors`` [n, D] as items 1 … n."""
    client = MilvusClient(uri)
    schema = client.create_schema(auto_id=False)
    schema.add_field("item", DataType.INT64, is_primary=True)
    schema.add_field("zero", DataType.INT64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", **METRIC)
    client.create_collection(COLLECTION, schema=schema, index_params=index)
    for start in range(0, len(vectors), 5_000):
        part = enumerate(vectors[start : start + 5_000], start + 1)
        rows = [{"item": item, "zero": 0, "vector": vector} for item, vector in part]
        client.insert(COLLECTION, rows)
    return client


def merged_here(client: MilvusClient, interests: FloatArray, top_k: int) -> Candidates:
    """Candidates [1, top_k] for ``interests`` [K, D] by one search of K vectors."""
    hits = client.search(
        COLLECTION, list(interests), limit=top_k, search_params=METRIC, output_fields=["item"]
    )
    ids = np.array([one.ids for one in hits], np.int64)
    scores = np.array([one.distances for one in hits], np.float32)
    return merge_interests(ids[None], scores[None], top_k)


def merged_there(
    client: MilvusClient, interests: FloatArray, top_k: int, vectors: FloatArray
) -> tuple[IntArray, IntArray]:
    """Items [top_k] by one hybrid search, and the interest of each."""
    requests = [AnnSearchRequest([one], "vector", METRIC, top_k) for one in interests]
    (hits,) = client.hybrid_search(
        COLLECTION, requests, ranker=KEEP_BEST, limit=top_k, output_fields=["item"]
    )
    items = np.array(hits.ids, np.int64)
    return items, (vectors[items - 1] @ interests.T).argmax(axis=1)


def measured(items: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of both for a catalogue of so many items, and the share of equal lists."""
    rng = np.random.default_rng(arguments.seed)
    vectors = directions(rng, items, arguments.dim)
    users = directions(rng, arguments.users, arguments.interests, arguments.dim)
    here, there, same = [], [], 0
    with TemporaryDirectory(prefix="paddlerec-milvus-") as folder:
        uri = str(Path(folder) / "milvus.db")
        client, recorder = filled(uri, vectors), MachineRecorder(uri)
        for interests in users:
            began = time.perf_counter()
            ours = merged_here(client, interests, arguments.top_k)
            between = time.perf_counter()
            theirs = merged_there(client, interests, arguments.top_k, vectors)
            there.append(1_000 * (time.perf_counter() - between))
            here.append(1_000 * (between - began))
            pairs = ((ours.ids[0], theirs[0]), (ours.interests[0], theirs[1]))
            same += all(np.array_equal(*pair) for pair in pairs)
        state = recorder.state()
        client.close()
    merged, hybrid = float(np.median(here)), float(np.median(there))
    return {
        "items": items,
        "merged here, p50 ms": merged,
        "hybrid search, p50 ms": hybrid,
        "ratio": hybrid / merged,
        "same lists": same / len(users),
        "load": state.load,
    }


def directions(rng: np.random.Generator, *shape: int) -> FloatArray:
    """Random vectors of ``shape`` [..., D] with length 1."""
    vectors = rng.normal(size=shape)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--items", type=int, nargs="+", default=[2_000, 9_347], metavar="N")
    add("--dim", type=int, default=128, metavar="D")
    add("--interests", type=int, default=4, metavar="K")
    add("--users", type=int, default=100, metavar="N")
    add("--top-k", type=int, default=50, metavar="K")
    add("--seed", type=int, default=1, metavar="N")
    add("--json", type=Path, metavar="FILE", help="all figures")
    arguments = parser.parse_args()

    def work() -> None:
        rows = [measured(items, arguments) for items in arguments.items]
        print(tabulate(rows, headers="keys", floatfmt=",.3f", tablefmt="github"))
        if arguments.json:
            parameters = {name: str(value) for name, value in vars(arguments).items()}
            about = {"parameters": parameters, "machine": machine(), "versions": versions()}
            write_json(about | {"rows": rows}, arguments.json, "--json")

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
