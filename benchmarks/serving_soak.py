# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The candidate service under load for long: does its p99 grow, does its memory?

    python benchmarks/serving_soak.py -m mind/config.yaml --data datasets/sample --out DIR

First its throughput is measured, by a closed loop; then it is asked at --share of that, on a
timetable, in windows of ten seconds, with its resident memory read after each. Steady: no request
failed, the p99 of the last five minutes is at most 20 % above that of the first five, and memory
at most 2 % above. (A shorter soak compares its first and last third.) Exit code 1 if not.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from service_callers import Callers
from serving_bench import Bench, bench_parser, provenance, say, served
from tabulate import tabulate

from paddlerec_milvus.bench.client_pool import LoadResult, joined
from paddlerec_milvus.command import run
from paddlerec_milvus.evaluation.report import write_json

WINDOW = 10.0  # seconds
EDGE = 300.0  # that are compared
CAPACITY_ROUNDS = 3
MOST_P99, MOST_MEMORY = 1.2, 1.02


class Window(NamedTuple):
    """Ten seconds of the load."""

    end: float
    """Seconds since the load began."""
    rss_mib: float
    cpu_seconds: float
    outcome: LoadResult


def main() -> int:
    """Put the load on, print the verdict; 1 when it is not steady."""
    parser = bench_parser(__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=30.0, metavar="M", help="(30)")
    add("--share", type=float, default=0.7, metavar="S", help="of the throughput (0.7)")
    add("--rate", type=float, default=0.0, metavar="R", help="requests a second, instead")
    add("--out", type=Path, required=True, metavar="DIR", help="serving_soak.json and .png")
    given = parser.parse_args()
    steady: list[bool] = []
    return run(lambda: steady.append(_main(given))) or int(not all(steady))


def _main(given: argparse.Namespace) -> bool:
    with (
        served(given) as bench,
        Callers(given.connections, {"service": bench.ways["service"]}) as callers,
    ):
        capacity = throughput(bench, callers, given.connections)
        rate = given.rate or given.share * capacity
        windows = soaked(bench, callers, given, rate)
        about = provenance(given, bench)
    verdict = judged(windows)
    rows = {"throughput, requests/s": capacity, "load, requests/s": rate} | verdict
    print(tabulate(list(rows.items()), floatfmt=",.2f", tablefmt="github"))
    about |= {"verdict": rows, "windows": [_row(window) for window in windows]}
    write_json(about, given.out / "serving_soak.json", "--out")
    draw(windows, rate, given.out / "serving_soak.png")
    say(f"written: {given.out}/serving_soak.json, serving_soak.png")
    return bool(verdict["steady"])


def throughput(bench: Bench, callers: Callers, connections: int) -> float:
    """Requests a second of a closed loop, the median of some windows after a first."""
    rates = [
        bench.many(callers, "service", connections, seconds=WINDOW).rate
        for _ in range(CAPACITY_ROUNDS + 1)
    ]
    say(f"throughput, requests/s: {', '.join(f'{rate:,.0f}' for rate in rates)}")
    return float(np.median(rates[1:]))


def soaked(bench: Bench, callers: Callers, given: argparse.Namespace, rate: float) -> list[Window]:
    """All windows of the load."""
    began = time.monotonic()
    windows: list[Window] = []
    while time.monotonic() - began < 60 * given.minutes:
        used = bench.service.cpu_seconds()
        outcome = bench.many(callers, "service", given.connections, rate=rate, seconds=WINDOW)
        used = bench.service.cpu_seconds() - used
        end = time.monotonic() - began
        windows.append(Window(end, bench.service.rss_mib(), used, outcome))
        if len(windows) % 6 == 0 or outcome.failures:
            say(
                f"{end / 60:.1f} min: p99 {outcome.latency().p99:.2f} ms, "
                f"{windows[-1].rss_mib:,.1f} MiB, {outcome.failures} failures"
                + (f": {outcome.first_failure}" if outcome.failures else "")
            )
    return windows


def judged(windows: Sequence[Window]) -> dict[str, Any]:
    """The last five minutes beside the first five; of a shorter load its thirds."""
    edge = min(EDGE, windows[-1].end / 3)
    first = [window for window in windows if window.end <= max(edge, windows[0].end)]
    last = [window for window in windows if window.end > windows[-1].end - edge]
    p99 = [joined([each.outcome for each in part]).latency().p99 for part in (first, last)]
    memory = [float(np.median([each.rss_mib for each in part])) for part in (first, last)]
    failures = sum(window.outcome.failures for window in windows)
    grown = p99[1] / p99[0], memory[1] / memory[0]
    return {
        "minutes": windows[-1].end / 60,
        "requests": sum(window.outcome.requests for window in windows),
        "failures": failures,
        "p99 of the first minutes, ms": p99[0],
        "p99 of the last minutes, ms": p99[1],
        "last / first": grown[0],
        "memory of the first minutes, MiB": memory[0],
        "memory of the last minutes, MiB": memory[1],
        "memory, last / first": grown[1],
        "steady": not failures and grown[0] <= MOST_P99 and grown[1] <= MOST_MEMORY,
    }


def _row(window: Window) -> dict[str, Any]:
    seen = window.outcome.latency().model_dump(exclude={"histogram", "harness_ms"})
    about = {"end": window.end, "rss_mib": window.rss_mib, "cpu_seconds": window.cpu_seconds}
    return about | {"answered_per_second": window.outcome.rate} | seen


def draw(windows: Sequence[Window], rate: float, file: Path) -> None:
    """Latency and memory over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    minutes = [window.end / 60 for window in windows]
    seen = [window.outcome.latency() for window in windows]
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(9.6, 6.4), sharex=True, layout="constrained"
    )
    for name, style in (("p99", "-"), ("p50", "--")):
        above.plot(
            minutes, [getattr(each, name) for each in seen], style, color="black", label=name
        )
    above.set_ylabel("latency, ms")
    above.legend(frameon=False, ncols=2)
    below.plot(minutes, [window.rss_mib for window in windows], color="black")
    below.set_ylabel("resident memory, MiB")
    below.set_xlabel("minutes")
    for axis in (above, below):
        axis.set_ylim(bottom=0)
        axis.grid(color="0.85")
        axis.spines[["top", "right"]].set_visible(False)
    failures = sum(window.outcome.failures for window in windows)
    figure.suptitle(f"The candidate service at {rate:,.0f} requests/s, {failures} failed")
    figure.savefig(file, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
