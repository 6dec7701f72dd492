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
from collections.abc import Callable, Sequence
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
    given = parser.parse_args()
    met: list[bool] = []
    return run(lambda: met.extend(_main(given))) or int(not all(met))


def _main(given: argparse.Namespace) -> list[bool]:
    with (
        served(given, given.batch) as bench,
        Callers(given.connections, {name: bench.ways[name] for name in ("raw", "service")}) as many,
    ):
        rounds, heads = measured(bench, many, given)
        capacity = float(np.median([outcome.rate for outcome in rounds["service", "many"]]))
        rates = given.rate or [share * capacity for share in SHARES]
        opened = [open_loop(bench, many, given, rate) for rate in rates]
        about = provenance(given, bench) | {"service_rss_mib": bench.service.rss_mib()}
    rows = compared(rounds, given)
    stages = by_stage(heads, joined(rounds["service", "one"]).latency().mean)
    print(_table(rows), _table([stages]), _table(opened), sep="\n\n")
    if given.json:
        about |= {"rows": rows, "mean_ms": stages, "open_loop": opened}
        about["rounds"] = {
            f"{way}, {what}": [
                {"rate": each.rate, **each.latency().model_dump(exclude_none=True)}
                for each in outcomes
            ]
            for (way, what), outcomes in rounds.items()
        }
        write_json(about, given.json, "--json")
    return [row["met"] for row in rows if row["bar"]] + [not each["failures"] for each in opened]


def _table(rows: Sequence[dict[str, Any]]) -> str:
    shown = [{name: v for name, v in row.items() if name != "histogram"} for row in rows]
    return tabulate(shown, headers="keys", floatfmt=",.3f", tablefmt="github")


def measured(
    bench: Bench, callers: Callers, given: argparse.Namespace
) -> tuple[Rounds, list[bytes]]:
    """What raw pymilvus and the service did in each round; the heads of single answers."""
    connected = {name: way.connect() for name, way in bench.ways.items()}
    heads: list[bytes] = []

    def alone(name: str, requests: int) -> LoadResult:
        call, asked = connected[name]

        def kept(request: Any) -> None:
            call(request)
            if name == "service" and isinstance(call, Wire):
                heads.append(call.head)

        run_load(call, asked, Load(bench.index, 1, max(1, int(WARM_UP * requests))))
        return run_load(kept, asked, Load(bench.index, 1, requests))

    def many(name: str) -> LoadResult:
        return bench.many(callers, name, given.connections, seconds=given.seconds)

    steps: dict[tuple[str, str], Callable[[], LoadResult]] = {
        ("raw", "one"): lambda: alone("raw", given.requests),
        ("service", "one"): lambda: alone("service", given.requests),
        ("service", "excluding"): lambda: alone("service, excluding", given.requests),
        ("raw", "many"): lambda: many("raw"),
        ("service", "many"): lambda: many("service"),
        ("raw", "batch"): lambda: alone("raw, batch", given.batches),
        ("service", "batch"): lambda: alone("service, batch", given.batches),
    }
    for way in ("raw", "service"):
        bench.many(callers, way, given.connections, seconds=WARM_UP * given.seconds + 1)
    rounds: Rounds = {step: [] for step in steps}
    for number in range(given.rounds):
        order = list(steps.items())
        for (way, what), step in order if number % 2 == 0 else order[::-1]:
            outcome = step()
            rounds[way, what].append(outcome)
            say(f"round {number + 1} of {given.rounds}, {what}, {way}: {_in_words(outcome)}")
    for call, _ in connected.values():
        call.close()
    return rounds, heads


def _latency(load: LoadResult) -> dict[str, Any]:
    return load.latency().model_dump(exclude={"harness_ms"})


def _in_words(outcome: LoadResult) -> str:
    at = outcome.latency()
    text = f"{outcome.rate:,.1f} requests/s, p50 {at.p50:.2f} ms, p99 {at.p99:.2f} ms"
    if outcome.failures:
        text += f", {outcome.failures} FAILED: {outcome.first_failure}"
    return text


def open_loop(
    bench: Bench, callers: Callers, given: argparse.Namespace, rate: float
) -> dict[str, Any]:
    """Requests on a timetable of ``rate`` a second; latencies count from the planned start."""
    seen = bench.many(callers, "service", given.connections, rate=rate, seconds=given.seconds)
    say(f"open loop, {rate:,.0f} planned a second: {_in_words(seen)}")
    return {
        "open loop, requests/s": rate,
        "answered/s": seen.rate,
        **seen.latency().model_dump(exclude_none=True),
    }


def compared(rounds: Rounds, given: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each bar, and those of requests with exclude_history, which have none.

    Figures are medians of the rounds; least and most are of single rounds.
    """

    def row(
        name: str, what: str, base: str, figure: Figure, most: float = 0.0, least: float = 0.0
    ) -> dict[str, Any]:
        raw = [figure(outcome) for outcome in rounds["raw", base]]
        service = [figure(outcome) for outcome in rounds["service", what]]
        ratio = float(np.median(service) / np.median(raw))
        each = [ours / theirs for theirs, ours in zip(raw, service, strict=True)]
        failures = sum(one.failures for one in rounds["raw", base] + rounds["service", what])
        within = ratio <= most if most else ratio >= least
        return {
            "what": name,
            "raw": float(np.median(raw)),
            "service": float(np.median(service)),
            "service / raw": ratio,
            "least": min(each),
            "most": max(each),
            "failures": failures,
            "bar": f"≤ {most}" if most else f"≥ {least}" if least else "",
            "met": within and not failures if most or least else None,
        }

    one, batch = "one connection", f"users/s, {given.batch} users a request"
    many, users = f"requests/s, {given.connections} connections", given.batch
    return [
        row(f"p50, ms, {one}", "one", "one", _percentile("p50"), most=2.0),
        row(f"p99, ms, {one}", "one", "one", _percentile("p99"), most=3.0),
        row(many, "many", "many", lambda outcome: outcome.rate, least=0.6),
        row(batch, "batch", "batch", lambda outcome: outcome.rate * users, least=0.7),
        row("p50, ms, exclude_history", "excluding", "one", _percentile("p50")),
        row("p99, ms, exclude_history", "excluding", "one", _percentile("p99")),
    ]


def _percentile(name: str) -> Figure:
    return lambda outcome: float(getattr(outcome.latency(), name))


def by_stage(heads: Sequence[bytes], mean: float) -> dict[str, float]:
    """Mean milliseconds of single answers by stage, of those that their caller waited."""
    spent: dict[str, float] = {}
    for head in heads:
        for line in head.decode("latin-1").split("\r\n"):
            field, _, value = line.partition(":")
            if field.lower() == "server-timing":
                for part in value.split(","):
                    stage, _, took = part.strip().partition(";dur=")
                    spent[stage] = spent.get(stage, 0.0) + float(took)
    stages = {stage: took / len(heads) for stage, took in spent.items()}
    rest = mean - sum(stages.values())
    return {"mean of an answer, ms": mean, **stages, "rest (HTTP, JSON, waiting)": rest}


if __name__ == "__main__":
    sys.exit(main())
