# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The candidate service under faults that really happen: is a write lost, a list mixed?

    python benchmarks/service_faults.py --data datasets/sample --out DIR

Milvus is killed and stopped, the network is cut, the service is killed in the middle of inserts and
at each call of the switch, two services write at once, disks are full. Meanwhile the service is
asked for candidates 50 times a second, and clicks and items are written; afterwards what was
acknowledged is compared with what is stored, and every list with those of the two models. Writes
service_faults.json and service_faults.md. Exit code 1 if a promise was broken. Needs two epochs of
a checkpoint of the sample (make sample-model), the extras [server] and [serve], and Linux with
unshare and nsenter.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from fault_table.around_service import (
    LONG_STOP_SECONDS,
    STOP_SECONDS,
    milvus_killed,
    milvus_stopped,
    milvus_stopped_for_long,
    network,
    two_writers,
)
from fault_table.full_disks import checkpoint_saved, model_copied, vectors_inserted
from fault_table.load import EPOCHS, FaultBench
from fault_table.proxy import Fault
from fault_table.row import FaultRow, page_of, table_of
from fault_table.served_folder import PARAMETERS, YAML, ServedFolder
from fault_table.service_kills import insert_switch_killed, inserts_killed, rollback_switch_killed
from serving_bench import PACKAGES, say

from paddlerec_milvus.command import run, settings_for
from paddlerec_milvus.data.files import replacing
from paddlerec_milvus.errors import CheckpointError, UserError, redacted
from paddlerec_milvus.evaluation.report import machine, versions, write_json
from paddlerec_milvus.subcommands import CommandParser

FAULTS: dict[str, tuple[str, Callable[[FaultBench, FaultRow], None]]] = {
    "milvus-killed": ("kill -9 of Milvus", milvus_killed),
    "milvus-stopped": (f"SIGSTOP of Milvus, {STOP_SECONDS:g} s", milvus_stopped),
    "milvus-stopped-long": (f"SIGSTOP of Milvus, {LONG_STOP_SECONDS:g} s", milvus_stopped_for_long),
    "network-cut": ("network: connections are cut", partial(network, fault=Fault.CUT)),
    "network-silent": ("network: nothing comes back", partial(network, fault=Fault.SILENT)),
    "network-refused": ("network: the port is closed", partial(network, fault=Fault.REFUSE)),
    "insert-killed": ("kill -9 of the service, at random in an insert", inserts_killed),
    "switch-killed": ("kill -9 of the service, each call of the switch", insert_switch_killed),
    "rollback-killed": ("kill -9 of the service, each call of a rollback", rollback_switch_killed),
    "two-writers": ("two services insert and take clicks at once", two_writers),
    "disk-checkpoint": ("disk full: a checkpoint is saved", checkpoint_saved),
    "disk-copy": ("disk full: the service copies the model", model_copied),
    "disk-insert": ("disk full: Milvus Lite stores an insert", vectors_inserted),
}
DATA = Path(__file__).resolve().parent.parent / "datasets" / "sample"


def main() -> int:
    """Let all faults happen, print and write the table; 1 where a promise was broken."""
    parser = CommandParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, default=DATA, metavar="DIR", help="prepared (datasets/sample)")
    add("-o", "--opt", nargs="*", default=[], metavar="KEY=VALUE", help="the model's settings")
    add(
        "--only",
        nargs="+",
        choices=FAULTS,
        default=list(FAULTS),
        metavar="NAME",
        help=f"of {', '.join(FAULTS)}",
    )
    add("--short", action="store_true", help="each fault once, of inserts that are killed three")
    add("--seed", type=int, default=1, metavar="N", help="draws histories, clicks and moments (1)")
    add("--out", type=Path, required=True, metavar="DIR", help="for service_faults.json and .md")
    arguments = parser.parse_args()
    rows: list[FaultRow] = []
    return run(lambda: _main(arguments, rows)) or int(any(row.problems for row in rows))


def _main(arguments: argparse.Namespace, rows: list[FaultRow]) -> None:
    checkpoints = settings_for(YAML, arguments.opt, arguments.data).path("infer_load_path")
    for epoch in EPOCHS:
        if not (file := checkpoints / str(epoch) / PARAMETERS).is_file():
            raise CheckpointError(f"{file}: no such checkpoint; two are needed: train first")
    with ExitStack() as stack:
        place = Path(stack.enter_context(TemporaryDirectory(prefix="paddlerec-milvus-faults-")))
        served = ServedFolder(place / "served", checkpoints, arguments.data, arguments.opt)
        say("computing the lists of both epochs")
        bench = FaultBench(
            place, served, arguments.data.resolve(), stack, arguments.short, arguments.seed
        )
        for name in arguments.only:
            say(f"{name} …")
            rows.append(_row(name, bench))
            say(f"{table_of(rows[-1:])}\n" + "".join(f"BROKEN: {p}\n" for p in rows[-1].problems))
            _write(arguments, rows)
    print(table_of(rows))
    say(f"written: {arguments.out}/service_faults.json, service_faults.md")


def _row(name: str, bench: FaultBench) -> FaultRow:
    began = time.monotonic()
    title, fault = FAULTS[name]
    row = FaultRow(title)
    try:
        fault(bench, row)
    except (UserError, httpx.HTTPError) as error:
        row.problems.append(f"it did not come to its end: {error!r}")
    row.seconds = time.monotonic() - began
    return row


def _write(arguments: argparse.Namespace, rows: Sequence[FaultRow]) -> None:
    shown = {name: redacted(str(value)) for name, value in vars(arguments).items()}
    about = {
        "rows": [asdict(row) | {"lost": row.lost} for row in rows],
        "sound": not any(row.problems for row in rows),
        "parameters": shown,
        "machine": machine(),
        "versions": versions() | {name: version(name) for name in PACKAGES},
    }
    write_json(about, arguments.out / "service_faults.json", "--out")
    with replacing(arguments.out / "service_faults.md") as file:
        file.write_text(page_of(rows, about), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
