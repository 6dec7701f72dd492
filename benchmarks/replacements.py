# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""One model after the other replaces the one that serves: does a request fail, does anything grow?

    python benchmarks/replacements.py --out benchmarks/results
    python benchmarks/replacements.py --replacements 5 --out DIR

A service on a link of exports and a Milvus server of this machine; meanwhile lists are asked for
--rate times a second. Every version's vectors are those of one model, moved from item to item, so
that each list tells the one version that it is of. A list of none is mixed. After a tenth, half and
all of the replacements, memory and disk of Milvus and of the service are read, once the garbage
that a replacement leaves is collected: the intervals of that are shortened here, see the results.
Writes replacements.json, after each of these, and where Ctrl-C ends it. Exit code 1: a request
failed, or a list is mixed. Needs the extras [train], [export], [serve] and [server].
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
from fault_table.steady_requests import Answer, SteadyRequests
from service_process import ServiceProcess
from serving_bench import PACKAGES, say
from tabulate import tabulate

from paddlerec_milvus.command import run
from paddlerec_milvus.data.files import sha256_of
from paddlerec_milvus.data.id_map import read_item_ids
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.evaluation.report import machine, versions, write_json
from paddlerec_milvus.export.exported_model import ExportedModel, read_export
from paddlerec_milvus.export.manifest import MANIFEST, VECTORS
from paddlerec_milvus.export.onnx_tower import OnnxTower
from paddlerec_milvus.retrieval.candidates import search_users
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.memory_estimate import MIB
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.retrieval.server import LocalMilvus
from paddlerec_milvus.serving.client import Client
from paddlerec_milvus.subcommands import CommandParser
from paddlerec_milvus.update.exports_folder import RUNS, ExportsFolder

COLLECTION = "replacements"
HISTORIES, TOP_K, KEEP = 8, 20, 3
STEP = 37  # items by which a version's vectors are moved from those of the version before
GARBAGE = {
    "dataCoord.gc.interval": 10,
    "dataCoord.gc.missingTolerance": 20,
    "dataCoord.gc.dropTolerance": 20,
    "rocksmq.compactionInterval": 30,
    "rocksmq.retentionTimeInMinutes": 1,
    "rocksmq.retentionSizeInMB": 16,
    "rocksmq.rocksmqPageSize": 1 << 20,
}
SETTLE_SECONDS = 40.0  # after which garbage of the last replacement is collected
READY_SECONDS = 60.0
TRAINING = ("runner.epochs=1", "hyper_parameters.neg_samples=128", "runner.train_batch_size=256")


@dataclass
class Replacements:
    """What came of them."""

    replaced: int = 0
    seconds: list[float] = field(default_factory=list)
    """Of each insert."""
    requests: int = 0
    failed: int = 0
    popular: int = 0
    mixed: int = 0
    late: int = 0
    """Lists of a version that served before the one that a later-sent request was answered by."""
    slowest: float = 0.0
    p99: float = 0.0
    first_problem: str = ""
    marks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing failed and no list is of none of the versions."""
        return not self.failed and not self.mixed


def main() -> int:
    """Replace, print and write what was seen; 1 where a request failed or a list is mixed."""
    parser = CommandParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--replacements", type=int, default=100, metavar="N", help="(100)")
    add("--items", type=int, default=20_000, metavar="N", help="vectors of each version (20,000)")
    add("--rate", type=float, default=20.0, metavar="R", help="requests a second (20)")
    add("--pause", type=float, default=1.0, metavar="S", help="seconds between inserts (1)")
    add("--out", type=Path, required=True, metavar="DIR", help="for replacements.json")
    arguments = parser.parse_args()
    results: list[Replacements] = []
    return run(lambda: _main(arguments, results)) or int(not all(r.is_sound for r in results))


def _main(arguments: argparse.Namespace, results: list[Replacements]) -> None:
    load = os.getloadavg()
    result = Replacements()
    results.append(result)
    with ExitStack() as stack:
        place = Path(stack.enter_context(TemporaryDirectory(prefix="paddlerec-milvus-replaced-")))
        say(f"training a model of {arguments.items:,} items")
        base = base_export(place, arguments.items)
        bench = ReplacementBench(place, base, arguments, stack)
        try:
            bench.replace(result, lambda: _write(arguments, bench, result, load))
        finally:
            _write(arguments, bench, result, load)
    _show(result)
    say(f"written: {arguments.out}/replacements.json")


def base_export(place: Path, items: int) -> ExportedModel:
    """A model of a synthetic log with so many items, trained for a moment, width 64."""
    from paddlerec_milvus.command import settings_for
    from paddlerec_milvus.data.cli import main as prepare
    from paddlerec_milvus.export.exporting import export_model
    from paddlerec_milvus.trained_model import TrainedModel, checkpoint_of
    from paddlerec_milvus.training.trainer import train

    size = ["--users", str(items // 4), "--items", str(items), "--clicks", str(10 * items)]
    out = place / "data"
    if prepare(["--sample", *size, "--min-count", "2", "--out", str(out)]) != 0:
        raise RetrievalError("no synthetic log could be prepared")
    models = place / "models"
    options = [f"runner.model_save_path={models}", f"runner.infer_load_path={models}", *TRAINING]
    settings = settings_for("mind/config.yaml", [*options, "index.type=FLAT"], out)
    train(settings)
    export_model(TrainedModel(settings, checkpoint_of(models)), place / "base")
    return read_export(place / "base")


class ReplacementBench:
    """Milvus, the service on a link, and what each version answers."""

    def __init__(
        self, place: Path, base: ExportedModel, arguments: argparse.Namespace, stack: ExitStack
    ) -> None:
        self._place, self._base, self._arguments = place, base, arguments
        self.items = base.manifest.items
        self._vectors = np.load(base.checkpoint / VECTORS)
        self.exports = ExportsFolder(place / "exports")
        self.exports.folder.mkdir()
        self._histories, self._lists = self._expected()
        say("starting Milvus")
        self.milvus = stack.enter_context(LocalMilvus(place / "milvus", settings=GARBAGE))
        self.exports.point(self._written(0))
        environment = {
            "MILVUS_URI": self.milvus.uri,
            "SERVING_EXPORT": str(self.exports.folder / "current"),
            "SERVING_OPTIONS": shlex.join([f"milvus.collection={COLLECTION}"]),
        }
        say("starting the service")
        log = place / "service.log"
        self.service = stack.enter_context(ServiceProcess(environment, log))
        self._client = stack.enter_context(Client(self.service.url))
        self._client.insert()
        self.service.wait_for("/readyz", READY_SECONDS)

    def _expected(self) -> tuple[list[list[Any]], dict[tuple[int, tuple[Any, ...]], int]]:
        """Histories, and the version of each list that may answer one: by exact search."""
        ids, tower = read_item_ids(self._base.data), OnnxTower(self._base)
        rng = np.random.default_rng(1)
        numbers = np.zeros((HISTORIES, tower.maxlen), np.int64)
        lengths = 1 + np.arange(HISTORIES)
        for row, length in enumerate(lengths.tolist()):
            numbers[row, :length] = rng.integers(1, self.items + 1, length)
        exact = ExactRetriever(self._vectors[1:], range(1, self.items + 1), "IP")
        best = search_users(exact, tower.interests(numbers, lengths), TOP_K).ids
        lists = {}
        for version_number in range(self._arguments.replacements + 1):
            moved = 1 + (best - 1 + STEP * version_number) % self.items
            for row in range(HISTORIES):
                lists[row, tuple(ids.own_ids(moved[row].tolist()))] = version_number
        if len(lists) < HISTORIES * (self._arguments.replacements + 1):
            raise RetrievalError("two versions give the same list: they cannot be told apart")
        histories = [ids.own_ids(numbers[row, :n].tolist()) for row, n in enumerate(lengths)]
        return histories, lists

    def _written(self, number: int) -> str:
        """The export of a version, whose item i + STEP * number has the vector of the base's i."""
        name = f"v{number:04d}"
        place = shutil.copytree(self._base.checkpoint, self.exports.folder / name)
        (self.exports.folder / RUNS / name).mkdir(parents=True)  # as an update leaves it
        vectors = self._vectors.copy()
        vectors[1:] = np.roll(self._vectors[1:], STEP * number, axis=0)
        np.save(place / VECTORS, vectors)
        digest = sha256_of(place / VECTORS)
        files = {**self._base.manifest.files, VECTORS: digest}
        changed = {"digest": digest[:16], "files": files}
        text = self._base.manifest.model_copy(update=changed).model_dump_json()
        (place / MANIFEST).write_text(text, encoding="utf-8")
        return name

    def replace(self, result: Replacements, write: Any) -> None:
        """All replacements under requests; ``write`` is called whenever memory was read."""
        total = self._arguments.replacements
        marks = {max(1, total // 10), max(1, total // 2), total}
        bodies = [
            {"hist_item": [one], "top_k": TOP_K, "exclude_history": False}
            for one in self._histories
        ]
        result.marks.append(self._mark(0))
        with SteadyRequests(self.service.url, bodies, self._arguments.rate) as requests:
            try:
                for number in range(1, total + 1):
                    self._replace_one(number, result)
                    if number in marks:
                        time.sleep(SETTLE_SECONDS)
                        result.marks.append(self._mark(number))
                        self._judge(list(requests.answers), result)
                        write()
                        _say_mark(result)
            finally:
                self._judge(list(requests.answers), result)
        self._judge(requests.answers, result)

    def _replace_one(self, number: int, result: Replacements) -> None:
        before, name = self.exports.current, self._written(number)
        self.exports.point(name)
        began = time.monotonic()
        self._client.insert()
        result.seconds.append(time.monotonic() - began)
        result.replaced = number
        self.exports.prune(KEEP, {before, name})
        time.sleep(self._arguments.pause)

    def _judge(self, answers: Sequence[Answer], result: Replacements) -> None:
        """Count what came of ``answers``, all so far."""
        ordered = sorted(answers)
        counts, newest = Counter[str](), 0
        for answer in ordered:
            if answer.status != 200:
                counts["failed"] += 1
                result.first_problem = result.first_problem or f"{answer.status}: {answer.text}"
            elif answer.source != "model":
                counts["popular"] += 1
            else:
                listed = self._lists.get((answer.number, tuple(answer.body["candidates"][0])))
                counts["mixed"] += listed is None
                counts["late"] += listed is not None and listed < newest - 1
                newest = max(newest, newest if listed is None else listed)
        result.requests = len(ordered)
        result.failed, result.popular = counts["failed"], counts["popular"]
        result.mixed, result.late = counts["mixed"], counts["late"]
        seconds = [answer.seconds for answer in ordered] or [0.0]
        result.slowest, result.p99 = max(seconds), float(np.quantile(seconds, 0.99))

    def _mark(self, number: int) -> dict[str, Any]:
        """Memory and disk after ``number`` replacements."""
        folder = self.milvus.folder / "data"
        registry = self.exports.folder / "current_state" / "served"
        with MilvusRetriever(self.milvus.uri, COLLECTION) as retriever:
            collections = len(retriever.versions.names())
        return {
            "replacements": number,
            "service_rss_mib": self.service.rss_mib(),
            "milvus_rss_mib": _rss_mib(self.milvus.process_id),
            "milvus_disk_mib": _size_mib(folder),
            "milvus_disk_mib_by_folder": {
                part.name: _size_mib(part) for part in sorted(folder.iterdir())
            },
            "milvus_logs_mib": _size_mib(self.milvus.folder / "logs"),
            "exports_mib": _size_mib(self.exports.folder),
            "collections": collections,
            "exports": len(list(self.exports.folder.glob("v*"))),
            "models_of_the_service": len(list(registry.glob("*"))),
        }


def _files(folder: Path) -> Iterator[int]:
    for file in folder.rglob("*"):
        try:
            if file.is_file() and not file.is_symlink():
                yield file.stat().st_blocks * 512
        except OSError:  # gone meanwhile
            continue


def _size_mib(folder: Path) -> float:
    size = folder.stat().st_blocks * 512 if folder.is_file() else sum(_files(folder))
    return size / MIB


def _rss_mib(supervisor: int | None) -> float:
    children = psutil.Process(supervisor).children(recursive=True)
    return sum(child.memory_info().rss for child in children) / MIB


def _say_mark(result: Replacements) -> None:
    mark = result.marks[-1]
    say(
        f"{mark['replacements']} replacements: service {mark['service_rss_mib']:.0f} MiB, Milvus "
        f"{mark['milvus_rss_mib']:.0f} MiB in memory, {mark['milvus_disk_mib']:.0f} MiB on disk; "
        f"{result.requests:,} requests, {result.failed} failed, {result.mixed} mixed"
    )


def _show(result: Replacements) -> None:
    columns = [name for name in result.marks[0] if name != "milvus_disk_mib_by_folder"]
    rows = [[mark[name] for name in columns] for mark in result.marks]
    print(tabulate(rows, columns, "github", floatfmt=",.1f"))
    print(
        f"{result.replaced} replacements, {result.requests:,} requests: {result.failed} failed, "
        f"{result.mixed} mixed lists, {result.popular} by popular items, {result.late} late; p99 "
        f"{1000 * result.p99:.1f} ms, slowest {result.slowest:.2f} s {result.first_problem}"
    )


def _write(
    arguments: argparse.Namespace,
    bench: ReplacementBench,
    result: Replacements,
    load: tuple[float, float, float],
) -> None:
    about = {
        **asdict(result),
        "sound": result.is_sound,
        "insert_seconds_median": float(np.median(result.seconds)) if result.seconds else None,
        "parameters": {name: str(value) for name, value in vars(arguments).items()},
        "collection": {"items": bench.items, "width": 64, "index": "FLAT", "kept": 2},
        "milvus_settings": GARBAGE,
        "settle_seconds": SETTLE_SECONDS,
        "machine": machine() | {"load_before": load, "load_after": os.getloadavg()},
        "versions": versions() | {name: version(name) for name in PACKAGES},
    }
    write_json(about, arguments.out / "replacements.json", "--out")


if __name__ == "__main__":
    sys.exit(main())
