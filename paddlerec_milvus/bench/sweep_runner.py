# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A sweep from its first build to its last row; what is in its results folder is not redone."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from tqdm import tqdm

from paddlerec_milvus.bench.client_pool import (
    ClientPool,
    Load,
    calls_of,
    clients_for,
    run_load,
    searching,
)
from paddlerec_milvus.bench.library_baseline import LibraryIndex, supported
from paddlerec_milvus.bench.measure_build import BenchServer, Target, measure_build
from paddlerec_milvus.bench.measure_ranking import RankingMeter
from paddlerec_milvus.bench.measure_search import (
    Exact,
    SearchMeter,
    exact_of,
    quality_of,
    warnings_of,
)
from paddlerec_milvus.bench.results import (
    BuildResult,
    Head,
    LibraryMeasurement,
    LibraryResult,
    Provenance,
    Refusal,
    RepeatResult,
    Result,
    SearchResult,
    ServerInfo,
    StudyMeasurement,
    StudyResult,
)
from paddlerec_milvus.bench.results_file import ResultsError, ResultsFile, key_of
from paddlerec_milvus.bench.sweep_config import BuildPlan, SweepConfig, builds_of
from paddlerec_milvus.bench.unsupported import check_build_refused, check_search_refused
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.errors import RefusedError
from paddlerec_milvus.evaluation.report import machine, versions
from paddlerec_milvus.retrieval.indexes import Index, setting_name


class Progress:
    """How many steps of all are done: a bar on a terminal, a line for each new step elsewhere."""

    def __init__(self, total: int, unit: str, done: int = 0) -> None:
        self._bar = tqdm(initial=done, total=total, unit=unit, disable=None)
        self._total, self._unit, self._done = total, unit, done
        self._began = time.monotonic()

    def start(self, what: str) -> None:
        """Say what is measured now."""
        self._bar.set_description(what)
        if self._bar.disable:
            so_far = f"{self._done:,} of {self._total:,} {self._unit}"
            seconds = time.monotonic() - self._began
            print(f"{so_far}, {seconds:,.0f} s: {what}", file=sys.stderr, flush=True)

    def advance(self) -> None:
        """Count one more as done."""
        self._done += 1
        self._bar.update()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *problem: object) -> None:
        if self._bar.disable and self._total and problem[0] is None:
            self.start("done")
        self._bar.close()


class SweepRunner:
    """One sweep on one workload into one results folder."""

    def __init__(self, sweep: SweepConfig, workload: Workload, rows: ResultsFile) -> None:
        self.sweep, self.workload, self.rows = sweep, workload, rows
        self.builds = builds_of(sweep)
        self.server_version = ""
        for row in rows.rows:
            fingerprint = row.provenance.data.fingerprint
            if fingerprint != workload.fingerprint:
                raise ResultsError(
                    f"--out {rows.folder}: holds rows of other data ({fingerprint}, this "
                    f"sweep's is {workload.fingerprint}): give another folder"
                )

    def __call__(self) -> None:
        """Measure what is not there yet. UserError: what a user can mend; the rows so far stand.

        An index or a parameter that Milvus refuses is a row that says so, and is not tried again;
        any other refusal (a full disk, a quota, a build without end) ends the run.
        """
        left = [build for build in self.builds if self._missing(build)]
        if not left and not self._repeat_due:
            return
        with ExitStack() as stack:
            keys = [key for build in self.builds for key in self._keys(build)]
            done = sum(key in self.rows for key in keys)
            total = len(keys) + (len(self._points) > 1)
            self.progress = stack.enter_context(Progress(total, "rows", done))
            exact = exact_of(self.workload, self.sweep.k)
            count = max(self.sweep.measure.clients)
            clients = stack.enter_context(clients_for(self.sweep.server, self.workload, count))
            for build in left:
                self._floor(build, exact)
                self._build(build, exact, clients)
            if len(self._searched) > 1:
                self._repeat(exact, clients)

    def key(self, kind: str, index: Index, **more: Any) -> str:
        """The key of a row: a digest of all that decides it."""
        return key_of(
            {
                "kind": kind,
                "data": self.workload.fingerprint,
                "server": self.sweep.server,
                "index": index.label,
                "k": self.sweep.k,
                "seed": self.sweep.seed,
                "measure": self.sweep.measure.model_dump() if kind != "build" else None,
                **more,
            }
        )

    def _point_keys(self, build: BuildPlan) -> dict[str, Index]:
        k = self.sweep.k
        ranker = self.workload.ranker
        ranked = {} if ranker is None else {"ranker": ranker.model.manifest.digest}
        return {
            self.key("point", index, search=index.search_params(k), **ranked): index
            for index in build.searches
        }

    def _floor_keys(self, build: BuildPlan, engine: str) -> dict[str, Index]:
        if not supported(engine, build.index):
            return {}
        k = self.sweep.k
        return {
            self.key("floor", index, search=index.search_params(k), engine=engine): index
            for index in build.searches
        }

    def _keys(self, build: BuildPlan) -> list[str]:
        floors = [
            key
            for engine in (self.sweep.floor if build.floor else [])
            for key in self._floor_keys(build, engine)
        ]
        return [self.key("build", build.index), *self._point_keys(build), *floors]

    def _missing(self, build: BuildPlan) -> bool:
        key = self.key("build", build.index)
        if any(isinstance(row, Refusal) and row.key == key for row in self.rows.rows):
            return False
        return any(step not in self.rows for step in self._keys(build))

    @property
    def _points(self) -> dict[str, tuple[BuildPlan, Index]]:
        """All search settings of the sweep with their builds, by the keys of their rows."""
        return {
            key: (build, index)
            for build in self.builds
            for key, index in self._point_keys(build).items()
        }

    @property
    def _searched(self) -> list[SearchResult]:
        """The rows of the sweep's search settings, in the order in which they were measured."""
        points, rows = self._points, self.rows.rows
        return [row for row in rows if isinstance(row, SearchResult) and row.key in points]

    @property
    def _repeat_key(self) -> str:
        return self.key("repeat", self.builds[0].index)

    @property
    def _repeat_due(self) -> bool:
        """Whether a run ended before it; one of an older version of this program has none."""
        states = [row.measured.machine_state for row in self._searched]
        return len(states) > 1 and states[0] is not None and self._repeat_key not in self.rows

    def add_study(self, key: str, index: Index, line: StudyMeasurement) -> None:
        """Append a result of kind study."""
        k = self.sweep.k
        head = self._head(key, index)
        self.rows.add(StudyResult(**head, search=index.search_params(k), k=k, measured=line))

    def _add(self, result: Result) -> None:
        self.rows.add(result)
        self.progress.advance()

    def _head(self, key: str, index: Index) -> Head:
        """What results of all kinds begin with."""
        return {"key": key, "provenance": self.provenance, "index": index.label}

    @property
    def provenance(self) -> Provenance:
        """Where a result that is measured now comes from."""
        return Provenance(
            machine=self._machine,
            versions=versions(),
            data=self.workload.info,
            seed=self.sweep.seed,
            measure=self.sweep.measure,
            sweep=self.sweep.name,
            server=ServerInfo(kind=self.sweep.server, version=self.server_version),
            time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    @cached_property
    def _machine(self) -> dict[str, Any]:
        return machine()

    @cached_property
    def _ranking(self) -> RankingMeter | None:
        work = self.workload
        return None if work.ranker is None else RankingMeter(work, work.ranker)

    def _floor(self, build: BuildPlan, exact: Exact) -> None:
        """The engine alone, in this process and on one thread, while no server runs."""
        for engine in self.sweep.floor if build.floor else []:
            keys = self._floor_keys(build, engine)
            todo = {key: index for key, index in keys.items() if key not in self.rows}
            if not todo:
                continue
            work, k = self.workload, self.sweep.k
            self.progress.start(f"{engine}: {setting_name(build.index.label)}")
            try:
                library = LibraryIndex(engine, build.index, work.vectors, work.ids, work.metric)
            except RefusedError as error:
                for key, index in todo.items():
                    head = self._head(key, index)
                    refusal = Refusal(**head, what="floor", reason=str(error), k=k, engine=engine)
                    self._add(refusal)
                continue
            for key, index in todo.items():
                self._add(self._library_row(key, index, library, exact))

    def _library_row(self, key: str, index: Index, library: LibraryIndex, exact: Exact) -> Result:
        engine, k, search = library.engine, self.sweep.k, index.search_params(self.sweep.k)
        try:
            measured = self._measure_library(library, exact, index)
        except RefusedError as error:
            head, why = self._head(key, index), str(error)
            return Refusal(**head, what="floor", reason=why, search=search, k=k, engine=engine)
        head = self._head(key, index)
        return LibraryResult(**head, engine=engine, search=search, k=k, measured=measured)

    def _measure_library(
        self, library: LibraryIndex, exact: Exact, index: Index
    ) -> LibraryMeasurement:
        k, requests = self.sweep.k, self.sweep.measure.requests
        neighbours = library.search(self.workload.queries, k, index)
        load = Load(index, k, requests=requests)
        calls = calls_of(self.workload.interests, load)
        run = run_load(lambda queries: library.search(queries, k, index), calls, load)
        latency = run.latency()
        return LibraryMeasurement(
            index_recall=quality_of(self.workload, exact, neighbours).index_recall,
            build_seconds=library.build_seconds,
            latency=latency,
            warnings=warnings_of(latency, requests),
            users_per_second=run.rate,
        )

    def _build(self, build: BuildPlan, exact: Exact, clients: ClientPool | None) -> None:
        """Build, and measure every search on it, each once the server holds nothing else."""
        keys = self._point_keys(build)
        todo = {key: index for key, index in keys.items() if key not in self.rows}
        key = self.key("build", build.index)
        if not todo and key in self.rows:
            return
        self.progress.start(f"building {setting_name(build.index.label)}")
        with BenchServer(self.sweep.server, self.rows.folder) as place:
            target = place.target(self.workload.metric, build.index)
            try:
                measurement, self.server_version = measure_build(place, target, self.workload)
            except RefusedError as error:
                check_build_refused(target, self.workload, error)
                if key in self.rows:  # it was built before
                    raise
                self._add(Refusal(**self._head(key, build.index), what="build", reason=str(error)))
                return
            if key not in self.rows:
                self._add(BuildResult(**self._head(key, build.index), build=measurement))
            with self._meter(target, exact, clients) as meter:
                for point, index in todo.items():
                    search = index.search_params(self.sweep.k)
                    self.progress.start(setting_name(index.label, search))
                    self._add(self._search(point, index, meter))

    @contextmanager
    def _meter(
        self, target: Target, exact: Exact, clients: ClientPool | None
    ) -> Iterator[SearchMeter]:
        """What measures searches of the index that ``target`` holds."""
        with searching(target, self.workload, clients) as (retriever, loads):
            yield SearchMeter(
                self.workload,
                exact,
                self.sweep.k,
                self.sweep.measure,
                retriever,
                loads,
                most_clients=1 if clients is None else max(self.sweep.measure.clients),
            )

    def _repeat(self, exact: Exact, clients: ClientPool | None) -> None:
        """The setting that was measured first once more, on its index built anew: what drifted."""
        build, index = self._points[self._searched[0].key]
        k, search = self.sweep.k, index.search_params(self.sweep.k)
        self.progress.start(f"again, as the first one: {setting_name(index.label, search)}")
        with BenchServer(self.sweep.server, self.rows.folder) as place:
            target = place.target(self.workload.metric, build.index)
            measure_build(place, target, self.workload)
            with self._meter(target, exact, clients) as meter:
                again = meter.timed_again(index)
        head = self._head(self._repeat_key, build.index)
        self._add(RepeatResult(**head, search=search, k=k, measured=again))

    def _search(self, key: str, index: Index, meter: SearchMeter) -> SearchResult | Refusal:
        k, search = self.sweep.k, index.search_params(self.sweep.k)
        try:
            measured = meter.measured(index)
            if self._ranking is not None:
                meter.retriever.index = index
                measured = measured.with_ranked(self._ranking.quality(meter.retriever))
        except RefusedError as error:
            check_search_refused(meter.retriever, index, self.workload, k, error)
            head = self._head(key, index)
            return Refusal(**head, what="point", reason=str(error), search=search, k=k)
        return SearchResult(**self._head(key, index), search=search, k=k, measured=measured)
