# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A sweep from its first build to its last row; what is in its results folder is not redone."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime, timezone
from functools import cached_property
from typing import Any, NamedTuple

from tqdm import tqdm

from paddlerec_milvus.bench import library_baseline as floor
from paddlerec_milvus.bench.client_pool import Clients, Load, calls_of, run_load
from paddlerec_milvus.bench.index_quality import Exact, exact_of, quality_of
from paddlerec_milvus.bench.loads import clients_for, searching
from paddlerec_milvus.bench.measure_build import built
from paddlerec_milvus.bench.measure_search import Points, warnings_of
from paddlerec_milvus.bench.report.format import setting
from paddlerec_milvus.bench.results_file import ResultsError, Rows, key_of
from paddlerec_milvus.bench.servers import Place
from paddlerec_milvus.bench.sweep_config import Build, Sweep, builds_of
from paddlerec_milvus.bench.unsupported import check_build_refused, check_search_refused
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.errors import RefusedError
from paddlerec_milvus.evaluation.report import machine, versions
from paddlerec_milvus.retrieval.indexes import Index


class Found(NamedTuple):
    """A row of a study."""

    study: str
    params: dict[str, Any]
    values: dict[str, Any]


class Run:
    """One sweep on one workload into one results folder."""

    def __init__(self, sweep: Sweep, workload: Workload, rows: Rows) -> None:
        self.sweep, self.workload, self.rows = sweep, workload, rows
        self.builds = builds_of(sweep)
        self.server_version = ""
        for row in rows.rows:
            found = row["provenance"]["data"]["fingerprint"]
            if found != workload.fingerprint:
                raise ResultsError(
                    f"--out {rows.folder}: holds rows of other data ({found}, this sweep's is "
                    f"{workload.fingerprint}): give another folder"
                )

    def __call__(self) -> None:
        """Measure what is not there yet. UserError: what a user can mend; the rows so far stand.

        An index or a parameter that Milvus refuses is a row that says so, and is not tried again;
        any other refusal (a full disk, a quota, a build without end) ends the run.
        """
        left = [build for build in self.builds if self._missing(build)]
        with ExitStack() as stack:
            done, total = self._steps(done=True), self._steps()
            bar = stack.enter_context(tqdm(initial=done, total=total, unit="row", disable=None))
            self.bar = bar
            if not left:
                return
            exact = exact_of(self.workload, self.sweep.k)
            count = max(self.sweep.measure.clients)
            clients = stack.enter_context(clients_for(self.sweep.server, self.workload, count))
            for build in left:
                bar.set_description(setting(build.index.label))
                self._floor(build, exact)
                self._build(build, exact, clients)

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

    def _point_keys(self, build: Build) -> dict[str, Index]:
        k = self.sweep.k
        return {
            self.key("point", each, search=each.search_params(k)): each for each in build.searches
        }

    def _floor_keys(self, build: Build, engine: str) -> dict[str, Index]:
        if not floor.supported(engine, build.index):
            return {}
        k = self.sweep.k
        return {
            self.key("floor", each, search=each.search_params(k), engine=engine): each
            for each in build.searches
        }

    def _keys(self, build: Build) -> list[str]:
        floors = [
            key
            for engine in (self.sweep.floor if build.floor else [])
            for key in self._floor_keys(build, engine)
        ]
        return [self.key("build", build.index), *self._point_keys(build), *floors]

    def _missing(self, build: Build) -> bool:
        key = self.key("build", build.index)
        if any(row["key"] == key and "refused" in row for row in self.rows.rows):
            return False
        return any(each not in self.rows for each in self._keys(build))

    def _steps(self, *, done: bool = False) -> int:
        keys = [key for build in self.builds for key in self._keys(build)]
        return sum(key in self.rows for key in keys) if done else len(keys)

    def add_study(self, key: str, index: Index, found: Found) -> None:
        """Append a row of kind study."""
        about = {"study": found.study, "search": index.search_params(self.sweep.k)}
        values = {"k": self.sweep.k, "params": found.params, "values": found.values}
        self._add("study", key, index, about | values)

    def _add(self, kind: str, key: str, index: Index, values: dict[str, Any]) -> None:
        time = datetime.now(timezone.utc).isoformat(timespec="seconds")
        server = {"kind": self.sweep.server, "version": self.server_version}
        provenance = self.provenance | {"server": server, "time": time}
        about = {"kind": kind, "key": key, "provenance": provenance, "index": index.label}
        self.rows.add(about | values)
        if kind != "study":
            self.bar.update()

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What all rows of this run have in common."""
        return {
            "machine": machine(),
            "versions": versions(),
            "data": self.workload.described(),
            "seed": self.sweep.seed,
            "measure": self.sweep.measure.model_dump(),
            "sweep": self.sweep.name,
        }

    def _floor(self, build: Build, exact: Exact) -> None:
        """The engine alone, in this process and on one thread, while no server runs."""
        for engine in self.sweep.floor if build.floor else []:
            keys = self._floor_keys(build, engine)
            todo = {key: index for key, index in keys.items() if key not in self.rows}
            if not todo:
                continue
            work = self.workload
            try:
                built = floor.FloorIndex(engine, build.index, work.vectors, work.ids, work.metric)
            except RefusedError as error:
                for key, index in todo.items():
                    refused = {"engine": engine, "k": self.sweep.k, "refused": str(error)}
                    self._add("floor", key, index, refused)
                continue
            for key, index in todo.items():
                self._add("floor", key, index, self._floor_values(built, exact, index))

    def _floor_values(self, built: floor.FloorIndex, exact: Exact, index: Index) -> dict[str, Any]:
        k, measure = self.sweep.k, self.sweep.measure
        found = built.search(self.workload.queries, k, index)
        load = Load(index, k, requests=measure.requests)
        asked = calls_of(self.workload.interests, load)
        run = run_load(lambda queries: built.search(queries, k, index), asked, load)
        latency = run.latency()
        return {
            "engine": built.engine,
            "search": index.search_params(k),
            "k": k,
            "index_recall": quality_of(self.workload, exact, found)["index_recall"],
            "build_seconds": built.build_seconds,
            "latency": latency,
            "warnings": warnings_of(latency, measure.requests),
            "users_per_second": run.rate,
            "threads": 1,
        }

    def _build(self, build: Build, exact: Exact, clients: Clients | None) -> None:
        """Build, and measure every search on it, each once the server holds nothing else."""
        keys = self._point_keys(build)
        todo = {key: index for key, index in keys.items() if key not in self.rows}
        key = self.key("build", build.index)
        if not todo and key in self.rows:
            return
        with Place(self.sweep.server, self.rows.folder) as place:
            target = place.target(self.workload.metric, build.index)
            try:
                values = built(place, target, self.workload)
            except RefusedError as error:
                check_build_refused(target, self.workload, error)
                if key in self.rows:  # it was built before
                    raise
                self._add("build", key, build.index, {"refused": str(error)})
                return
            self.server_version = values.pop("server_version")
            if key not in self.rows:
                self._add("build", key, build.index, values)
            with searching(target, self.workload, clients) as (retriever, loads):
                points = Points(
                    self.workload,
                    exact,
                    self.sweep.k,
                    self.sweep.measure,
                    retriever,
                    loads,
                    most_clients=1 if clients is None else max(self.sweep.measure.clients),
                )
                for each, index in todo.items():
                    self._point(each, index, points)

    def _point(self, key: str, index: Index, points: Points) -> None:
        about = {"search": index.search_params(self.sweep.k), "k": self.sweep.k}
        try:
            values = points.measured(index)
        except RefusedError as error:
            k, work = self.sweep.k, self.workload
            check_search_refused(points.retriever, index, work, k, error)
            values = {"refused": str(error)}
        self._add("point", key, index, about | values)
