# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The command line of benchmarks/tune_index.py."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tabulate import tabulate

from paddlerec_milvus.bench.client_pool import Clients, Load, Outcome, Target
from paddlerec_milvus.bench.loads import clients_for, searching
from paddlerec_milvus.bench.memory_estimate import estimate_mib
from paddlerec_milvus.bench.probe import probe
from paddlerec_milvus.bench.report import format as words
from paddlerec_milvus.bench.servers import Place
from paddlerec_milvus.bench.tuner import (
    Advice,
    Goal,
    Served,
    Setting,
    Tuner,
    candidates_for,
    check_k,
)
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.command import model_parser, run
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.evaluation.report import machine, versions, write_json
from paddlerec_milvus.retrieval.indexes import Index

EXAMPLES = """\
examples:
  python benchmarks/tune_index.py -m mind/config.yaml --recall 0.99 --p99-ms 20
  python benchmarks/tune_index.py -m mind/config.yaml --data datasets/mine --loss 0.001
  python benchmarks/tune_index.py -m mind/config.yaml --recall 0.95 --server http://127.0.0.1:19530"""


def _parser() -> argparse.ArgumentParser:
    parser = model_parser(
        "The fastest Milvus index and parameters for a model's own vectors and test users that "
        "meet a target of index_recall or of relevance, with how sure that is. Among the settings "
        "that meet all targets the one with the highest throughput (users a second) is chosen; "
        "what memory each takes is shown beside it, and decides nothing.",
        EXAMPLES,
    )
    add = parser.add_argument
    add("--recall", type=float, metavar="SHARE", help="index_recall of a user's list, at least")
    add("--loss", type=float, metavar="SHARE", help="of recall@k against exact search, at most")
    add("--p99-ms", type=float, metavar="MS", help="of one client, at most")
    add("--k", type=int, default=50, metavar="N", help="length of a list (50)")
    add("--epoch", default="best", help="of the checkpoint: a number or best (best)")
    add("--users", type=int, default=2_000, metavar="N", help="test users, at most (2,000)")
    add("--server", default="local", metavar="WHERE", help="local, lite, or a uri (local)")
    add(
        "--clients", type=int, nargs="+", default=[1, 4], metavar="N",
        help="tried for the throughput, beside one alone: the best number counts (1 4)",
    )  # fmt: skip
    add("--seed", type=int, default=1, metavar="N", help="of the users and of the probe (1)")
    add("--json", type=Path, metavar="FILE", help="all that was found")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 2 for a user's mistake, 130 for Ctrl-C."""
    given = _parser().parse_args(argv)
    return run(lambda: _tune(given))


def _tune(given: argparse.Namespace) -> None:
    from paddlerec_milvus.bench.trained import trained_workload  # paddle: not for client processes

    goal = Goal(given.recall, given.loss, given.p99_ms)
    workload = trained_workload(
        Path(given.config_yaml).parent.name or given.config_yaml,
        given.config_yaml,
        given.data,
        given.opt,
        given.epoch,
        given.users,
        given.seed,
    )
    check_k(given.k, len(workload.ids))
    began = time.perf_counter()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="paddlerec-milvus-tune-")))
        with Place(given.server, scratch) as place:
            looked = probe(workload, given.k, place, given.seed)
        _say(f"warning: {looked.warning}" if looked.warning else str(looked))
        candidates = candidates_for(len(workload.ids), graphs=not looked.warning)
        for index in candidates:
            about = estimate_mib(index, *workload.vectors.shape)
            label = words.setting(index.label)
            _say(f"{label}: about {about:,.0f} MiB, and held until all are timed")
        clients = stack.enter_context(clients_for(given.server, workload, max(given.clients)))
        counts = given.clients if clients is not None else [1]
        serve = stack.enter_context(serving(workload, given.server, scratch, clients))
        advice = Tuner(workload, given.k, goal, serve, counts).advise(candidates)
    print(_text(advice, given.k, time.perf_counter() - began))
    if given.json:
        write_json(_json(advice, given.k, workload), given.json, "--json")


class Turned:
    """Client processes that turn to ``target`` for each load, as others may have had them."""

    def __init__(self, clients: Clients, target: Target) -> None:
        self._clients, self._target = clients, target

    def run(self, loads: Sequence[Load], warm_up: int = 0) -> Outcome:
        """One client for each of ``loads``, started together."""
        self._clients.open(self._target)
        return self._clients.run(loads, warm_up)


@contextmanager
def serving(
    workload: Workload, server: str, scratch: Path, clients: Clients | None
) -> Iterator[Callable[[Index], AbstractContextManager[Served]]]:
    """A function for a Tuner. Each index has a collection of its own: all can be searched."""
    with Place(server, scratch) as place:
        numbers = count(1)

        @contextmanager
        def serve(index: Index) -> Iterator[Served]:
            target = place.target(workload.metric, index)
            target = replace(target, collection=f"{target.collection}_{next(numbers)}")
            before = place.rss_mib()
            with target.connect() as builder:
                try:
                    times = builder.versions.build(workload.vectors, workload.ids)
                    with searching(target, workload, None) as (retriever, alone):
                        loads = alone if clients is None else Turned(clients, target)
                        now = place.rss_mib()
                        grown = None if before is None or now is None else now - before
                        yield Served(retriever, loads, times, grown)
                finally:
                    with suppress(RetrievalError):
                        builder.versions.drop()

        yield serve


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _text(advice: Advice, k: int, seconds: float) -> str:
    lines = []
    if advice.settings:
        rows = [in_words(each, k) for each in advice.settings]
        lines.append(tabulate(rows, headers="keys", floatfmt=".4g"))
    lines += advice.failed
    if advice.best is None:
        lines.append("No setting meets the target: lower it, or allow a longer p99.")
    else:
        best = in_words(advice.best, k)
        lines.append(
            f"Use {best['index']}: index_recall {best['index_recall']:.4f}, "
            f"{best['users/s']:,.0f} users/s with {best['clients']} clients, p99 "
            f"{best['p99 ms']:.2f} ms of one. The target holds on as many other users with a "
            f"probability of {100 * best['sure']:.1f} %. Found in {seconds:.0f} s."
        )
    return "\n".join(lines)


def in_words(setting: Setting, k: int) -> dict[str, Any]:
    """A line of the table."""
    return {
        "index": words.setting(setting.index.label, setting.index.search_params(k)),
        "index_recall": setting.quality["index_recall"],
        "sure": setting.sure,
        "users/s": setting.users_per_second,
        "clients": setting.clients,
        "p99 ms": setting.p99_ms,
        "estimated MiB": setting.estimate_mib,
        "server grew by MiB": setting.rss_mib,
        "seconds": setting.seconds,
    }


def _json(advice: Advice, k: int, workload: Workload) -> dict[str, Any]:
    return {
        "settings": [in_words(each, k) | {"quality": each.quality} for each in advice.settings],
        "failed": advice.failed,
        "data": workload.described(),
        "machine": machine(),
        "versions": versions(),
    }
