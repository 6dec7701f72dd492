# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""One row: a catalogue is streamed into a Milvus of its own, indexed, tuned and searched."""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from paddlerec_milvus.bench.client_pool import clients_for
from paddlerec_milvus.bench.measure_build import BenchServer, Target, measure_building
from paddlerec_milvus.bench.measure_search import (
    Exact,
    SearchMeter,
    merged,
    quality_by_user,
    relevance_of,
)
from paddlerec_milvus.bench.results import BuildMeasurement
from paddlerec_milvus.bench.tuner import ladder_of
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.evaluation.report import machine, versions
from paddlerec_milvus.retrieval.base import IntArray, Neighbours
from paddlerec_milvus.retrieval.build import BuildTimes
from paddlerec_milvus.retrieval.indexes import Index, Ivf
from paddlerec_milvus.retrieval.memory_estimate import MIB
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.sampling import evenly_spread
from scale_study.rows import ScaleCase, ScaleRow, TunedSearch
from scale_study.vectors import VectorStream, exact_neighbours, planted_clicks

RELEVANT_ITEMS = 400_000  # up to here clicks are planted, and relevance is measured
TUNED_USERS = 200
SPARE = 1.005  # times the target on those users, so that all users meet it, too
CLOSE = 0.99  # of the best that was tried, where nothing meets the target
LARGEST_SHARE = 4  # a search looks into at most nlist over this
BUILDING = 1.6  # times the loaded index: what the server may take meanwhile; rows say what it took
SERVER_MIB = 1_024.0  # beside that, empty server and clients included
LOAD_SECONDS = 1_200.0  # deadline of a call: 10 M rows take minutes to load
POLL_SECONDS = 0.5


def measure(case: ScaleCase) -> ScaleRow:
    """Measure a case, on a server of its own. SettingsError: it does not fit into memory."""
    require_memory(case)
    began, load = time.perf_counter(), os.getloadavg()[0]
    stream = VectorStream(case.items, case.dimension, case.clusters, case.spread, case.seed)
    say(case, "exact lists …")
    workload, exact = searched(case, stream)
    exact_seconds = time.perf_counter() - began
    with (
        TemporaryDirectory(prefix="paddlerec-milvus-scale-") as folder,
        BenchServer("local", Path(folder)) as place,
    ):
        target = replace(place.target("IP", case.built), timeout=LOAD_SECONDS)
        say(case, "insert and build …")
        with peak_memory(place) as peak:
            build, milvus = built(place, target, case, stream, workload)
        say(case, f"built in {build.seconds:,.0f} s; tuning and searching …")
        most = max(case.measure.clients)
        with (
            clients_for("local", workload, most) as clients,
            target.connect() as retriever,
        ):
            assert clients is not None
            retriever.open(rows=case.items)
            clients.open(target)
            setting, tuned = tune(case, workload, exact, retriever)
            meter = SearchMeter(workload, exact, case.k, case.measure, retriever, clients, most)
            measured = meter.measured(setting)
    planted = workload.truths is not None
    return ScaleRow(
        key=case.key,
        case=case,
        build=build,
        peak_rss_mib=peak.mib,
        tuned=tuned,
        measured=measured,
        relevance="planted clicks" if planted else "not measured: index_recall only",
        exact_seconds=exact_seconds,
        seconds=time.perf_counter() - began,
        load_before=round(load, 2),
        machine=machine(),
        versions={**versions(), "milvus server": milvus},
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def say(case: ScaleCase, what: str) -> None:
    """A line of progress, on stdout at once."""
    clock = datetime.now().strftime("%H:%M:%S")
    print(f"{clock} {case.items:,} x {case.dimension} {case.type}: {what}", flush=True)


def require_memory(case: ScaleCase) -> None:
    """SettingsError where building would need more memory than the machine has left."""
    needed = SERVER_MIB + BUILDING * case.formula_mib
    free = psutil.virtual_memory().available / MIB
    if needed > free:
        raise SettingsError(
            f"--items {case.items:,} --dim {case.dimension} --index {case.type} may take "
            f"{needed / 1024:,.1f} GiB while it is built, and {free / 1024:,.1f} GiB are free; "
            "take a smaller size, an index that needs less, or a machine with more"
        )


def searched(case: ScaleCase, stream: VectorStream) -> tuple[Workload, Exact]:
    """The users, with clicks where the catalogue is small, and their true lists."""
    wanted, known = stream.interests(case.users, case.interests)
    truths = planted_clicks(stream, wanted) if case.items <= RELEVANT_ITEMS else None
    sample = next(stream.blocks())  # a workload is its users here; the rows are streamed
    workload = Workload("scale", sample.vectors, sample.ids, known, "IP", truths)
    neighbours = exact_neighbours(stream, workload.queries, case.k)
    lists = merged(neighbours, case.users)
    return workload, Exact(neighbours, lists, relevance_of(lists.ids, truths))


def built(
    place: BenchServer, target: Target, case: ScaleCase, stream: VectorStream, workload: Workload
) -> tuple[BuildMeasurement, str]:
    """Build; the seconds of the insert are without those that making the vectors took."""

    def build(retriever: MilvusRetriever) -> BuildTimes:
        before = stream.seconds
        times = retriever.versions.build_blocks(stream.rows)
        making = stream.seconds - before
        return times._replace(insert_seconds=max(0.0, times.insert_seconds - making))

    shape = (case.items, case.dimension)
    return measure_building(place, target, shape, workload.queries, build)


@dataclass
class PeakMemory:
    """The most resident memory of a server so far."""

    mib: float | None = None
    _done: threading.Event = field(default_factory=threading.Event)

    def watch(self, place: BenchServer) -> None:
        """Look again and again until :meth:`stop`; a process that ends meanwhile is left out."""
        while not self._done.wait(POLL_SECONDS):
            try:
                now = place.rss_mib()
            except psutil.Error:
                continue
            if now is not None:
                self.mib = max(now, self.mib or 0.0)

    def stop(self) -> None:
        """End the watching."""
        self._done.set()


@contextmanager
def peak_memory(place: BenchServer) -> Iterator[PeakMemory]:
    """Watches what the server holds while the block runs."""
    peak = PeakMemory()
    watcher = threading.Thread(target=peak.watch, args=(place,), daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        peak.stop()
        watcher.join()


def tune(
    case: ScaleCase, workload: Workload, exact: Exact, retriever: MilvusRetriever
) -> tuple[Index, TunedSearch]:
    """The least ``ef`` or ``nprobe`` that finds enough for some of the users."""
    rows = evenly_spread(case.users, TUNED_USERS)
    some = workload.take(rows)
    truth = part_of(exact, workload, some, rows)
    ladder, recalls = affordable(ladder_of(case.built, case.k)), dict[int, float]()

    def recall(step: int) -> float:
        if step not in recalls:
            hits = retriever.search_with(ladder[step], some.queries, case.k)
            recalls[step] = float(quality_by_user(some, truth, hits)["index_recall"].mean())
        return recalls[step]

    last = len(ladder) - 1
    goal = min(1.0, SPARE * case.target)
    step = least(lambda step: recall(step) >= goal, last)
    met = recall(step) >= goal
    if not met:
        best = recall(last)
        step = least(lambda step: recall(step) >= CLOSE * best, last)
    chosen = ladder[step]
    values = {next(iter(ladder[n].search_params(case.k).values()), 0): recalls[n] for n in recalls}
    note = TunedSearch(
        params=chosen.search_params(case.k),
        users=len(rows),
        index_recall=recall(step),
        met=met,
        tried=dict(sorted(values.items())) if chosen.search_params(case.k) else {},
    )
    return chosen, note


def part_of(exact: Exact, whole: Workload, some: Workload, rows: IntArray) -> Exact:
    """The truth for the users in ``rows`` alone, who are ``some`` of the ``whole``."""
    whole_shape = (len(whole.interests), -1, exact.neighbours.ids.shape[1])
    near = Neighbours(
        exact.neighbours.ids.reshape(whole_shape)[rows].reshape(-1, whole_shape[2]),
        exact.neighbours.scores.reshape(whole_shape)[rows].reshape(-1, whole_shape[2]),
    )
    lists = merged(near, len(rows))
    return Exact(near, lists, relevance_of(lists.ids, some.truths))


def affordable(ladder: list[Index]) -> list[Index]:
    """Those that do not look into most of the cells: as slow as FLAT, and no answer in time."""
    return [
        index
        for number, index in enumerate(ladder)
        if number == 0 or not isinstance(index, Ivf) or index.nprobe <= index.nlist / LARGEST_SHARE
    ]


def least(holds: Callable[[int], bool], last: int) -> int:
    """The first of 0 … ``last`` that ``holds``, where all after it do, too; ``last``: none does."""
    return bisect_left(range(last), True, key=holds)
