# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What ranking adds to a request: /recommend for ten items beside /candidates for the 200 it ranks.

    python benchmarks/serving_ranked.py -m mind/config.yaml --data datasets/sample --json FILE

The checkpoint has a ranker (tools/rank.py). A real Milvus server and the service (uvicorn, one
worker) run on this machine and are asked by turns; the same users' raw searches by pymilvus are
measured in the same rounds. Exit code 1 when a bar is missed: at most 5 ms more at the median, 15
at the 99th percentile, and with many connections at least 0.6 of the requests a second. The bars
are meant for Amazon Books' size: 367,982 items.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from service_callers import Callers
from serving_bench import Bench, bench_parser, provenance, say, served
from tabulate import tabulate

from paddlerec_milvus.bench.client_pool import Load, LoadResult, run_load
from paddlerec_milvus.command import run
from paddlerec_milvus.evaluation.report import write_json

WAYS = ("raw", "candidates", "recommend")
MOST_P50, MOST_P99, LEAST_RATE = 5.0, 15.0, 0.6
Rounds = dict[str, list[LoadResult]]


def main() -> int:
    """Measure and print; 1 when a bar is missed."""
    parser = bench_parser(__doc__)
    add = parser.add_argument
    add("--requests", type=int, default=1_000, metavar="N", help="one by one, each round (1,000)")
    add("--seconds", type=float, default=5.0, metavar="S", help="of many connections (5)")
    add("--rounds", type=int, default=5, metavar="N", help="(5)")
    add("--json", type=Path, metavar="FILE", help="all figures")
    arguments = parser.parse_args()
    met: list[bool] = []
    return run(lambda: met.extend(_main(arguments))) or int(not all(met))


def _main(arguments: argparse.Namespace) -> list[bool]:
    with (
        served(arguments) as bench,
        Callers(arguments.connections, {name: bench.ways[name] for name in WAYS}) as many,
    ):
        alone, crowded = _measured(bench, many, arguments)
        about = provenance(arguments, bench) | {"service_rss_mib": bench.service.rss_mib()}
    rows = compared(alone, crowded, arguments.connections)
    print(tabulate(rows, headers="keys", floatfmt=",.3f", tablefmt="github"))
    if arguments.json:
        write_json(about | {"rows": rows}, arguments.json, "--json")
    return [row["met"] for row in rows]


def _measured(
    bench: Bench, callers: Callers, arguments: argparse.Namespace
) -> tuple[Rounds, Rounds]:
    """What single and many connections saw in each round, by way."""
    connected = {name: bench.ways[name].connect() for name in WAYS}
    alone: Rounds = {name: [] for name in WAYS}
    crowded: Rounds = {name: [] for name in WAYS}
    for name, (call, requests) in connected.items():
        run_load(call, requests, Load(bench.index, 1, max(1, arguments.requests // 10)))
        bench.many(callers, name, arguments.connections, seconds=1)
    for number in range(arguments.rounds):
        for name in WAYS if number % 2 == 0 else WAYS[::-1]:
            call, requests = connected[name]
            alone[name].append(run_load(call, requests, Load(bench.index, 1, arguments.requests)))
        for name in WAYS if number % 2 == 0 else WAYS[::-1]:
            seen = bench.many(callers, name, arguments.connections, seconds=arguments.seconds)
            crowded[name].append(seen)
        at = {name: alone[name][-1].latency().p50 for name in WAYS}
        say(f"round {number + 1} of {arguments.rounds}, p50 in ms: {at}")
    for call, _ in connected.values():
        call.close()
    return alone, crowded


def compared(alone: Rounds, crowded: Rounds, connections: int) -> list[dict[str, Any]]:
    """A row for each bar; figures are medians of the rounds."""
    failures = sum(
        one.failures for rounds in (alone, crowded) for way in rounds.values() for one in way
    )

    def median(rounds: Rounds, way: str, figure: str) -> float:
        values = [
            one.rate if figure == "rate" else getattr(one.latency(), figure) for one in rounds[way]
        ]
        return float(np.median(values))

    rows = []
    for figure, most in (("p50", MOST_P50), ("p99", MOST_P99)):
        raw, before, after = (median(alone, way, figure) for way in WAYS)
        rows.append(
            {
                "what": f"{figure}, ms, one connection",
                "raw": raw,
                "candidates": before,
                "recommend": after,
                "added": after - before,
                "added / raw": (after - before) / raw,
                "recommend / candidates": after / before,
                "bar": f"added ≤ {most:g}",
                "met": after - before <= most and not failures,
            }
        )
    raw, before, after = (median(crowded, way, "rate") for way in WAYS)
    rows.append(
        {
            "what": f"requests/s, {connections} connections",
            "raw": raw,
            "candidates": before,
            "recommend": after,
            "added": None,
            "added / raw": None,
            "recommend / candidates": after / before,
            "bar": f"ratio ≥ {LEAST_RATE:g}",
            "met": after / before >= LEAST_RATE and not failures,
        }
    )
    return rows


if __name__ == "__main__":
    sys.exit(main())
