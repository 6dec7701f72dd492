# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The command line of benchmarks/tune_index.py."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tabulate import tabulate

from paddlerec_milvus.bench.clients import Clients
from paddlerec_milvus.bench.loads import clients_for, searching
from paddlerec_milvus.bench.memory import estimate_mib
from paddlerec_milvus.bench.places import Place
from paddlerec_milvus.bench.probe import probe
from paddlerec_milvus.bench.tuner import Advice, Goal, Served, Tuner, candidates_for, in_words
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.command import model_parser, run
from paddlerec_milvus.evaluation.report import machine, versions, write_json
from paddlerec_milvus.retrieval.indexes import Index

EXAMPLES = """\
examples:
  python benchmarks/tune_index.py -m mind/config.yaml --recall 0.99 --p99-ms 20
  python benchmarks/tune_index.py -m mind/config.yaml --data datasets/mine --loss 0.001
  python benchmarks/tune_index.py -m mind/config.yaml --recall 0.95 --server http://127.0.0.1:19530"""


def _parser() -> argparse.ArgumentParser:
    parser = model_parser(
        "The cheapest Milvus index and parameters for a model's own vectors and test users that "
        "meet a target of index_recall or of relevance, with how sure that is.",
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
    add("--clients", type=int, nargs="+", default=[1, 4], metavar="N", help="tried (1 4)")
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
    began = time.perf_counter()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="paddlerec-milvus-tune-")))
        with Place(given.server, scratch) as place:
            looked = probe(workload, given.k, place, given.seed)
        _say(f"warning: {looked.warning}" if looked.warning else str(looked))
        for index in candidates_for(len(workload.ids)):
            rows, dimension = workload.vectors.shape
            _say(f"{index.type_name}: about {estimate_mib(index, rows, dimension):,.0f} MiB")
        clients = stack.enter_context(clients_for(given.server, workload, max(given.clients)))
        counts = given.clients if clients is not None else [1]
        serve = stack.enter_context(serving(workload, given.server, scratch, clients))
        advice = Tuner(workload, given.k, goal, serve, counts).advise()
    print(_text(advice, given.k, time.perf_counter() - began))
    if given.json:
        write_json(_json(advice, given.k, workload), given.json, "--json")


@contextmanager
def serving(
    workload: Workload, server: str, scratch: Path, clients: Clients | None
) -> Iterator[Callable[[Index], AbstractContextManager[Served]]]:
    """A function for a Tuner. The items are inserted once; each index is built on them in turn."""
    with Place(server, scratch) as place:
        stored = False

        @contextmanager
        def serve(index: Index) -> Iterator[Served]:
            nonlocal stored
            target = place.target(workload.metric, index)
            with target.connect() as builder:
                if stored:
                    builder.reindex()
                else:
                    builder.build(workload.vectors, workload.ids)
                    stored = True
            with searching(target, workload, clients) as (retriever, loads):
                yield Served(retriever, loads, place.rss_mib)

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
        words = in_words(advice.best, k)
        lines.append(
            f"Use {words['index']}: index_recall {words['index_recall']:.4f}, "
            f"{words['users/s']:,.0f} users/s with {words['clients']} clients, p99 "
            f"{words['p99 ms']:.2f} ms. The target holds on as many other users with a "
            f"probability of {100 * words['sure']:.1f} %. Found in {seconds:.0f} s."
        )
    return "\n".join(lines)


def _json(advice: Advice, k: int, workload: Workload) -> dict[str, Any]:
    return {
        "settings": [in_words(each, k) | {"quality": each.quality} for each in advice.settings],
        "failed": advice.failed,
        "data": workload.described(),
        "machine": machine(),
        "versions": versions(),
    }
