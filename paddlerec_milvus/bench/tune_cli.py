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

from tabulate import tabulate

from paddlerec_milvus.bench.client_pool import (
    ClientPool,
    Load,
    LoadResult,
    clients_for,
    searching,
)
from paddlerec_milvus.bench.measure_build import BenchServer, Target
from paddlerec_milvus.bench.probe import probe
from paddlerec_milvus.bench.report.steadiness import QUIET, load_words
from paddlerec_milvus.bench.tune_results import SettingResult, TuningReport
from paddlerec_milvus.bench.tuner import (
    Goal,
    Served,
    TunedSetting,
    Tuner,
    Tuning,
    candidates_for,
    check_k,
)
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.command import model_parser, run
from paddlerec_milvus.errors import RetrievalError, SettingsError
from paddlerec_milvus.evaluation.report import machine, versions, write_json
from paddlerec_milvus.machine_state import MachineRecorder, MachineState
from paddlerec_milvus.retrieval.indexes import Index, setting_name, setting_options
from paddlerec_milvus.retrieval.memory_estimate import estimate_mib

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
    arguments = _parser().parse_args(argv)
    return run(lambda: _tune(arguments))


def _tune(arguments: argparse.Namespace) -> None:
    from paddlerec_milvus.bench.workload import trained_workload  # paddle: not for client processes

    _check_numbers(arguments)
    goal = Goal(arguments.recall, arguments.loss, arguments.p99_ms)
    workload = trained_workload(
        Path(arguments.config_yaml).parent.name or arguments.config_yaml,
        arguments.config_yaml,
        arguments.data,
        arguments.opt,
        arguments.epoch,
        arguments.users,
        arguments.seed,
    )
    check_k(arguments.k, len(workload.ids))
    began = time.perf_counter()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="paddlerec-milvus-tune-")))
        with BenchServer(arguments.server, scratch) as place:
            probed = probe(workload, arguments.k, place, arguments.seed)
        _say(f"warning: {probed.warning}" if probed.warning else str(probed))
        candidates = candidates_for(len(workload.ids), graphs=not probed.warning)
        for index in candidates:
            about = estimate_mib(index, *workload.vectors.shape)
            label = setting_name(index.label)
            _say(f"{label}: about {about:,.0f} MiB, and held until all are timed")
        clients = stack.enter_context(
            clients_for(arguments.server, workload, max(arguments.clients))
        )
        counts = arguments.clients if clients is not None else [1]
        serve = stack.enter_context(serving(workload, arguments.server, scratch, clients))
        recorder = MachineRecorder(arguments.server)
        tuning = Tuner(workload, arguments.k, goal, serve, counts).advise(candidates)
        state = recorder.state()
    report = report_of(tuning, arguments.k, workload, state)
    print(_text(report, time.perf_counter() - began))
    if state.load > QUIET:
        _say(
            f"warning: {load_words(state)} meanwhile: the settings took turns, so all of them were "
            "slowed down, but throughput and p99 are not those of a quiet machine"
        )
    if tuning.best is not None:
        index = tuning.best.index
        print(f"-o {setting_options(index.label, index.search_params(arguments.k))}")
    if arguments.json:
        write_json(report.model_dump(by_alias=True), arguments.json, "--json")


def _check_numbers(arguments: argparse.Namespace) -> None:
    """SettingsError: clients that are none, or a seed that no generator takes."""
    for name, value, least in (
        ("--clients", min(arguments.clients), 1),
        ("--seed", arguments.seed, 0),
    ):
        if value < least:
            raise SettingsError(f"{name} {value}: expected {least} or more")


class SharedClients:
    """Client processes that turn to ``target`` for each load, as others may have had them."""

    def __init__(self, clients: ClientPool, target: Target) -> None:
        self._clients, self._target = clients, target

    def run(self, loads: Sequence[Load], warm_up: int = 0) -> LoadResult:
        """One client for each of ``loads``, started together."""
        self._clients.open(self._target)
        return self._clients.run(loads, warm_up)


@contextmanager
def serving(
    workload: Workload, server: str, scratch: Path, clients: ClientPool | None
) -> Iterator[Callable[[Index], AbstractContextManager[Served]]]:
    """A function for a Tuner. Each index has a collection of its own: all can be searched."""
    with BenchServer(server, scratch) as place:
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
                        loads = alone if clients is None else SharedClients(clients, target)
                        now = place.rss_mib()
                        grown = None if before is None or now is None else now - before
                        yield Served(retriever, loads, times, grown)
                finally:
                    with suppress(RetrievalError):
                        builder.versions.drop()

        yield serve


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def report_of(
    tuning: Tuning, k: int, workload: Workload, state: MachineState | None = None
) -> TuningReport:
    """``tuning`` for lists of ``k``, with the data, the machine and its state meanwhile."""
    return TuningReport(
        format=1,
        settings=[result_of(setting, k) for setting in tuning.settings],
        failed=tuning.failed,
        data=workload.described(),
        machine=machine(),
        versions=versions(),
        machine_state=state,
    )


def result_of(setting: TunedSetting, k: int) -> SettingResult:
    """``setting`` in words, for lists of ``k``."""
    return SettingResult(
        index=setting_name(setting.index.label, setting.index.search_params(k)),
        index_recall=setting.quality["index_recall"],
        confidence=setting.confidence,
        users_per_second=setting.users_per_second,
        clients=setting.clients,
        p99_ms=setting.p99_ms,
        estimate_mib=setting.estimate_mib,
        rss_mib=setting.rss_mib,
        seconds=setting.seconds,
        quality=setting.quality,
    )


def _text(report: TuningReport, seconds: float) -> str:
    lines = [f"{report.data['name']}: {split}"] if (split := report.data.get("split")) else []
    if report.settings:
        rows = [
            setting.model_dump(by_alias=True, exclude={"quality"}) for setting in report.settings
        ]
        lines.append(tabulate(rows, headers="keys", floatfmt=".4g"))
    lines += report.failed
    if report.settings:
        best = report.settings[0]
        lines.append(
            f"Use {best.index}: index_recall {best.index_recall:.4f}, "
            f"{best.users_per_second:,.0f} users/s with {best.clients} clients, p99 "
            f"{best.p99_ms:.2f} ms of one. The target holds on as many other users with a "
            f"probability of {100 * best.confidence:.1f} %. Found in {seconds:.0f} s."
        )
    else:
        lines.append("No setting meets the target: lower it, or allow a longer p99.")
    return "\n".join(lines)
