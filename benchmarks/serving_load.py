# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the candidate service costs beside raw pymilvus: latency, throughput, large requests.

    python benchmarks/serving_load.py -m mind/config.yaml --data datasets/sample --json FILE

A real Milvus server and the service (uvicorn, one worker) run on this machine. The service is asked
with histories of test users, Milvus is searched with the same users' interests, by turns, so that
what the machine does meanwhile hits both. Compared are lists without exclude_history, for which
both fetch --top-k hits for each interest. With it (a request's default) the service fetches as many
more as the history is long; that is shown below, beside the same raw search of --top-k hits. Exit
code 1 when a bar is missed. The bars are meant for Amazon Books' size: 367,982 items.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from service_callers import Callers, Wire
from serving_bench import Bench, bench_parser, provenance, say, served
from tabulate import tabulate

from paddlerec_milvus.bench.client_pool import Load, LoadResult, joined, run_load
from paddlerec_milvus.command import run
from paddlerec_milvus.evaluation.report import write_json

SHARES = (0.25, 0.5, 0.7)  # of the throughput, for the open loop
WARM_UP = 0.05  # of a round's requests
Rounds = dict[tuple[str, str], list[LoadResult]]
Figure = Callable[[LoadResult], float]


def main() -> int:
    """Measure and print; 1 when a bar is missed."""
    parser = bench_parser(__doc__)
    add = parser.add_argument
    add("--batch", type=int, default=128, metavar="N", help="users in a large request (128)")
    add("--requests", type=int, default=1_000, metavar="N", help="one by one, each round (1,000)")
    add("--batches", type=int, default=20, metavar="N", help="large requests a round (20)")
    add("--seconds", type=float, default=5.0, metavar="S", help="of many connections (5)")
    add("--rounds", type=int, default=5, metavar="N", help="(5)")
    add(
        "--rate",
        type=float,
        nargs="+",
        default=[],
        metavar="R",
        help="requests a second of the open loop (25, 50 and 70 %% of the throughput)",
    )
    add("--json", type=Path, metavar="FILE", help="all figures")
    arguments = parser.parse_args()
    met: list[bool] = []
    return run(lambda: met.extend(_main(arguments))) or int(not all(met))


def _main(arguments: argparse.Namespace) -> list[bool]:
    with (
        served(arguments, arguments.batch) as bench,
        Callers(
            arguments.connections, {name: bench.ways[name] for name in ("raw", "service")}
        ) as many,
    ):
        rounds, heads = measured(bench, many, arguments)
        capacity = float(np.median([outcome.rate for outcome in rounds["service", "many"]]))
        rates = arguments.rate or [share * capacity for share in SHARES]
        opened = [open_loop(bench, many, arguments, rate) for rate in rates]
        about = provenance(arguments, bench) | {"service_rss_mib": bench.service.rss_mib()}
    rows = compared(rounds, arguments)
    times = stage_times(heads)
    stages = by_stage(times, joined(rounds["service", "one"]).latency().mean)
    medians = {stage: float(np.median(taken)) for stage, taken in times.items()}
    shown: list[dict[str, Any]] = [stages, {"mean of an answer, ms": "medians", **medians}]
    print(_table(rows), _table(shown), _table(opened), sep="\n\n")
    if arguments.json:
        about |= {"rows": rows, "mean_ms": stages, "median_ms": medians, "open_loop": opened}
        about["rounds"] = {
            f"{way}, {what}": [
                {"rate": o.rate, **o.latency().model_dump(exclude_unset=True)} for o in outcomes
            ]
            for (way, what), outcomes in rounds.items()
        }
        write_json(about, arguments.json, "--json")
    return [row["met"] for row in rows if row["bar"]] + [not row["failures"] for row in opened]


def _table(rows: Sequence[dict[str, Any]]) -> str:
    shown = [{name: v for name, v in row.items() if name != "histogram"} for row in rows]
    return tabulate(shown, headers="keys", floatfmt=",.3f", tablefmt="github")


def measured(
    bench: Bench, callers: Callers, arguments: argparse.Namespace
) -> tuple[Rounds, list[bytes]]:
    """What raw pymilvus and the service did in each round; the heads of single answers."""
    connected = {name: way.connect() for name, way in bench.ways.items()}
    heads: list[bytes] = []

    def alone(name: str, count: int) -> LoadResult:
        call, requests = connected[name]

        def call_and_note(request: Any) -> None:
            call(request)
            if name == "service" and isinstance(call, Wire):
                heads.append(call.head)

        run_load(call, requests, Load(bench.index, 1, max(1, int(WARM_UP * count))))
        return run_load(call_and_note, requests, Load(bench.index, 1, count))

    def many(name: str) -> LoadResult:
        return bench.many(callers, name, arguments.connections, seconds=arguments.seconds)

    steps: dict[tuple[str, str], Callable[[], LoadResult]] = {
        ("raw", "one"): lambda: alone("raw", arguments.requests),
        ("service", "one"): lambda: alone("service", arguments.requests),
        ("service", "excluding"): lambda: alone("service, excluding", arguments.requests),
        ("raw", "many"): lambda: many("raw"),
        ("service", "many"): lambda: many("service"),
        ("raw", "batch"): lambda: alone("raw, batch", arguments.batches),
        ("service", "batch"): lambda: alone("service, batch", arguments.batches),
    }
    for way in ("raw", "service"):
        bench.many(callers, way, arguments.connections, seconds=WARM_UP * arguments.seconds + 1)
    rounds: Rounds = {step: [] for step in steps}
    for number in range(arguments.rounds):
        order = list(steps.items())
        for (way, what), step in order if number % 2 == 0 else order[::-1]:
            outcome = step()
            rounds[way, what].append(outcome)
            say(f"round {number + 1} of {arguments.rounds}, {what}, {way}: {_in_words(outcome)}")
    for call, _ in connected.values():
        call.close()
    return rounds, heads


def _in_words(outcome: LoadResult) -> str:
    at = outcome.latency()
    text = f"{outcome.rate:,.1f} requests/s, p50 {at.p50:.2f} ms, p99 {at.p99:.2f} ms"
    if outcome.failures:
        text += f", {outcome.failures} FAILED: {outcome.first_failure}"
    return text


def open_loop(
    bench: Bench, callers: Callers, arguments: argparse.Namespace, rate: float
) -> dict[str, Any]:
    """Requests on a timetable of ``rate`` a second; latencies count from the planned start."""
    seen = bench.many(
        callers, "service", arguments.connections, rate=rate, seconds=arguments.seconds
    )
    latency = seen.latency().model_dump(exclude_unset=True)
    say(f"open loop, {rate:,.0f} planned a second: {_in_words(seen)}")
    return {"open loop, requests/s": rate, "answered/s": seen.rate} | latency


def compared(rounds: Rounds, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each bar, and those of requests with exclude_history, which have none.

    Figures are medians of the rounds; least and most are of single rounds.
    """

    def row(
        name: str, what: str, base: str, figure: Figure, most: float = 0.0, least: float = 0.0
    ) -> dict[str, Any]:
        raw = [figure(outcome) for outcome in rounds["raw", base]]
        service = [figure(outcome) for outcome in rounds["service", what]]
        ratio = float(np.median(service) / np.median(raw))
        ratios = [ours / theirs for theirs, ours in zip(raw, service, strict=True)]
        failures = sum(one.failures for one in rounds["raw", base] + rounds["service", what])
        within = ratio <= most if most else ratio >= least
        return {
            "what": name,
            "raw": float(np.median(raw)),
            "service": float(np.median(service)),
            "service / raw": ratio,
            "least": min(ratios),
            "most": max(ratios),
            "failures": failures,
            "bar": f"≤ {most}" if most else f"≥ {least}" if least else "",
            "met": within and not failures if most or least else None,
        }

    one, batch = "one connection", f"users/s, {arguments.batch} users a request"
    many, users = f"requests/s, {arguments.connections} connections", arguments.batch
    return [
        row(f"p50, ms, {one}", "one", "one", _p50, most=2.0),
        row(f"p99, ms, {one}", "one", "one", _p99, most=3.0),
        row(many, "many", "many", lambda outcome: outcome.rate, least=0.6),
        row(batch, "batch", "batch", lambda outcome: outcome.rate * users, least=0.7),
        row("p50, ms, exclude_history", "excluding", "one", _p50),
        row("p99, ms, exclude_history", "excluding", "one", _p99),
    ]


def _p50(outcome: LoadResult) -> float:
    return outcome.latency().p50


def _p99(outcome: LoadResult) -> float:
    return outcome.latency().p99


def stage_times(heads: Sequence[bytes]) -> dict[str, list[float]]:
    """Milliseconds of each of the single answers, by stage."""
    spent: dict[str, list[float]] = {}
    for head in heads:
        for line in head.decode("latin-1").split("\r\n"):
            field, _, value = line.partition(":")
            if field.lower() == "server-timing":
                for part in value.split(","):
                    stage, _, took = part.strip().partition(";dur=")
                    spent.setdefault(stage, []).append(float(took))
    return spent


def by_stage(spent: Mapping[str, Sequence[float]], mean: float) -> dict[str, float]:
    """Mean milliseconds of single answers by stage, of those that their caller waited."""
    stages = {stage: float(np.mean(times)) for stage, times in spent.items()}
    rest = mean - sum(stages.values())
    return {"mean of an answer, ms": mean, **stages, "rest (HTTP, JSON, waiting)": rest}


if __name__ == "__main__":
    sys.exit(main())
