# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""How soon a service is ready and what memory it holds: from an export, and from its checkpoint.

    python benchmarks/serving_start.py -m mind/config.yaml --data datasets/sample \
        --export exports/mind --service-python SERVING/bin/python --out FILE

A real Milvus server runs on this machine and holds the vectors already; both services start by
turns. Seconds count from the start of the process until /readyz answers 200; memory is resident, at
that moment and after --requests requests. The export is served by --service-python, best that of an
environment which has [service] alone, as an image has: what else is installed costs memory, too
(pandas, which pymilvus imports, takes 33 MiB more where there is a pyarrow). What of it is not
private are pages of files, such as the item rows of an exported tower: processes share them, and
the system takes them back. Exit code 1 when a bar is missed: at most 5 seconds, and 360 MiB, half
of what a checkpoint's took before there were exports. The bars are meant for Amazon Books' size:
367,982 items.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from service_callers import Wire, post
from service_process import ServiceProcess
from serving_bench import INDEX, READY_LIMIT, bench_parser, say, shown_arguments, source_of
from tabulate import tabulate

from paddlerec_milvus.command import run, settings_for
from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.evaluation.report import OwnIds, machine, versions, write_json
from paddlerec_milvus.retrieval.server import LocalMilvus
from paddlerec_milvus.serving.client import Client

MOST_SECONDS, MOST_MIB = 5.0, 360.0
PACKAGES = """
import json
from importlib.metadata import distributions
print(json.dumps({one.name: one.version for one in distributions()}))
"""


def main() -> int:
    """Measure and print; 1 when a bar is missed."""
    parser = bench_parser(__doc__)
    parser.add_argument("--requests", type=int, default=300, metavar="N", help="(300)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="starts of each (3)")
    parser.add_argument(
        "--service-python",
        default=sys.executable,
        metavar="FILE",
        help="the Python that serves the export (this one)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="all figures")
    arguments = parser.parse_args()
    if arguments.export is None:
        parser.error("--export DIR: the export of the checkpoint")
    met: list[bool] = []
    return run(lambda: met.append(_main(arguments))) or int(not all(met))


def _main(arguments: argparse.Namespace) -> bool:
    packages = _packages(arguments.service_python)
    requests = _requests(arguments)
    with TemporaryDirectory(prefix="paddlerec-milvus-start-") as name:
        folder = Path(name)
        with LocalMilvus(folder / "milvus") as server:
            environments = _environments(arguments, server.uri, folder)
            say("inserting")
            with (
                ServiceProcess(
                    environments["export"], folder / "log", python=arguments.service_python
                ) as service,
                Client(service.url) as client,
            ):
                inserted = client.insert().model_dump()
            pythons = {"export": arguments.service_python, "checkpoint": sys.executable}
            starts = [
                {"from": source, **_start(source, environment, pythons[source], folder, requests)}
                for _ in range(arguments.rounds)
                for source, environment in environments.items()
            ]
    rows = _compared(starts)
    print(tabulate(rows, headers="keys", floatfmt=",.1f", tablefmt="github"))
    if arguments.out:
        about = {"parameters": shown_arguments(arguments), "inserted": inserted}
        about |= {"machine": machine(), "versions": versions(), "service_packages": packages}
        write_json({**about, "starts": starts, "rows": rows}, arguments.out, "--out")
    return all(row["met"] for row in rows if row["bar"])


def _packages(python: str) -> dict[str, str]:
    """Names and versions of all packages that ``python`` has; SettingsError: it is none."""
    option = f"--service-python {python}"
    try:
        ran = subprocess.run(
            [python, "-I", "-c", PACKAGES], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise SettingsError(f"{option}: cannot be run: {error.strerror}") from None
    if ran.returncode:
        raise SettingsError(f"{option}: is no Python (exit code {ran.returncode})")
    packages: dict[str, str] = dict(sorted(json.loads(ran.stdout).items()))
    if "paddlerec-milvus" not in packages:
        raise SettingsError(
            f"{option}: has no paddlerec-milvus; in that environment: pip install -e '.[service]'"
        )
    return packages


def _requests(arguments: argparse.Namespace) -> list[bytes]:
    settings = settings_for(arguments.config_yaml, arguments.opt, arguments.data)
    folder = settings.path("test_data_dir")
    ids, held_out = OwnIds.beside(folder).items, read_held_out(folder)
    histories, rng = held_out.history_list(), np.random.default_rng(arguments.seed)
    bodies = [
        {"hist_item": [ids.own_ids(histories[user].tolist())], "top_k": arguments.top_k}
        for user in rng.integers(0, len(histories), arguments.requests)
    ]
    return [post("/candidates", json.dumps(body).encode()) for body in bodies]


def _environments(
    arguments: argparse.Namespace, uri: str, folder: Path
) -> dict[str, dict[str, str]]:
    """The variables of the service from the export, and from the checkpoint."""
    options = [f"index.{pair}" for pair in INDEX]
    common = {"MILVUS_URI": uri, "SERVING_RECALL_SECONDS": "0"}
    exported = source_of(arguments, exported=True) | {"SERVING_OPTIONS": shlex.join(options)}
    trained = source_of(arguments, exported=False)
    trained["SERVING_OPTIONS"] = shlex.join(options + arguments.opt)
    return {
        source: {**common, **own, "SERVING_KEPT": str(folder / source)}
        for source, own in (("export", exported), ("checkpoint", trained))
    }


def _start(
    source: str, environment: Mapping[str, str], python: str, folder: Path, requests: list[bytes]
) -> dict[str, float]:
    began = time.perf_counter()
    with ServiceProcess(environment, folder / "log", python=python) as service:
        service.wait_for("/readyz", READY_LIMIT)
        seen = {"seconds": time.perf_counter() - began, "mib_at_ready": service.rss_mib()}
        with closing(Wire(service.port)) as ask:
            for request in requests:
                ask(request)
        seen["mib_after_requests"] = service.rss_mib()
        seen["of_it_private"] = service.private_mib()
    say(f"{source}: " + ", ".join(f"{what} {value:,.1f}" for what, value in seen.items()))
    return seen


def _compared(starts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians of the starts, and the export's as a share of the checkpoint's."""
    rows = []
    bars = {"seconds": MOST_SECONDS, "mib_at_ready": MOST_MIB, "mib_after_requests": MOST_MIB}
    for figure in (*bars, "of_it_private"):
        ours, theirs = (
            float(np.median([start[figure] for start in starts if start["from"] == source]))
            for source in ("export", "checkpoint")
        )
        rows.append(
            {
                "what": figure,
                "export": ours,
                "checkpoint": theirs,
                "export / checkpoint": ours / theirs,
                "bar": f"≤ {bars[figure]:g}" if figure in bars else "",
                "met": ours <= bars[figure] if figure in bars else None,
            }
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
