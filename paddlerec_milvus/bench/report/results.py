# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rows of a run as one looks at them: each point with its build and the FLAT beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from paddlerec_milvus.bench.report.format import setting
from paddlerec_milvus.errors import UserError

Row = Mapping[str, Any]
STAGES = ("insert", "compact", "index", "load")
RELEVANCE = ("recall", "ndcg", "ndcg_hits", "hitrate")


class Loss(NamedTuple):
    """Relevance that exact search has and the index has not, a difference of two means of [0, 1].

    ``low`` to ``high`` is its 95 % interval; ``exact`` the mean of exact search.
    """

    mean: float
    low: float
    high: float
    exact: float

    @property
    def seen(self) -> bool:
        """Whether it stands above the noise: its interval does not hold 0."""
        return self.low > 0 or self.high < 0

    @property
    def relative(self) -> Loss | None:
        """All of it as shares of ``exact``; None where that is 0."""
        if not self.exact:
            return None
        scale = self.exact
        return Loss(self.mean / scale, self.low / scale, self.high / scale, exact=1.0)


@dataclass(frozen=True, eq=False)
class Build:
    """An index that was built; ``name`` tells it from all others of the report."""

    row: Row
    name: str

    @property
    def type(self) -> str:
        """FLAT, HNSW …"""
        return str(self.row["index"]["type"])

    @property
    def seconds(self) -> float | None:
        """From the first insert until it is loaded; None where a stage was not timed."""
        found = [_at(self.row, f"{stage}_seconds") for stage in STAGES]
        timed = [seconds for seconds in found if seconds is not None]
        return sum(timed) if len(timed) == len(STAGES) else None

    @property
    def rss_added_mib(self) -> float | None:
        """Server memory above that of the empty server."""
        with_it, empty = self.row.get("rss_mib"), self.row.get("rss_empty_mib")
        return None if with_it is None or empty is None else float(with_it - empty)


@dataclass(frozen=True, eq=False)
class Point:
    """A search setting of a build; what was not measured is None."""

    row: Row
    name: str
    """Type, build and search parameters."""
    build_name: str
    build: Build | None

    @property
    def type(self) -> str:
        """FLAT, HNSW …"""
        return str(self.row["index"]["type"])

    @property
    def k(self) -> int:
        """Length of a list."""
        return int(self.row["k"])

    @property
    def failures(self) -> int:
        """Requests that failed, in all loads."""
        row = self.row
        loads = [row.get("latency") or {}]
        for name in ("throughput", "batches", "open_loop"):
            loads += row.get(name) or []
        return sum(load.get("failures") or 0 for load in loads)

    def index_recall(self, part: str = "list", value: str = "mean") -> float | None:
        """``part``: list (after the merge) or interest; ``value``: mean or se."""
        return _at(self.row, "index_recall", part, value)

    def relevance(self, name: str = "recall") -> float | None:
        """``name`` of RELEVANCE, at k."""
        return _at(self.row, "relevance", f"{name}@{self.k}")

    def loss(self, name: str = "recall") -> Loss | None:
        """Of ``name`` of RELEVANCE, at k."""
        metric = f"{name}@{self.k}"
        lost = (self.row.get("loss") or {}).get(metric)
        exact = _at(self.row, "exact", metric)
        if lost is None or exact is None:
            return None
        return Loss(lost["mean"], lost["low"], lost["high"], exact)

    def latency(self, name: str) -> float | None:
        """``p50``, ``p99`` …: milliseconds of one client that asks for one user at a time."""
        return _at(self.row, "latency", name)

    @cached_property
    def throughput(self) -> dict[int, Row]:
        """Clients → what they did together."""
        return {int(each["clients"]): each for each in self.row.get("throughput") or []}

    @property
    def best_clients(self) -> int | None:
        """The number of clients with the most users a second."""
        rates = {clients: self.users_per_second(clients) for clients in self.throughput}
        return max(rates, key=lambda clients: rates[clients] or 0.0) if rates else None

    def users_per_second(self, clients: int | None = None) -> float | None:
        """Of ``clients`` clients together, or of the best number."""
        number = self.best_clients if clients is None else clients
        if number is None or number not in self.throughput:
            return None
        return _at(self.throughput[number], "users_per_second")

    def built(self, name: str) -> float | None:
        """A number of its build's row."""
        return None if self.build is None else _at(self.build.row, name)


def _at(row: Row, *path: str) -> float | None:
    found: Any = row
    for name in path:
        found = (found or {}).get(name)
    return None if found is None else float(found)


@dataclass(frozen=True)
class View:
    """All rows of a run, sorted by kind, refused ones apart."""

    rows: Sequence[Row]
    builds: Sequence[Build]
    points: Sequence[Point]
    floors: Sequence[Row]
    studies: Sequence[Row]
    refused: Sequence[Row]

    @property
    def groups(self) -> list[list[Point]]:
        """Points that may be compared: of one k and one server."""
        found: dict[str, list[Point]] = {}
        for point in self.points:
            found.setdefault(_group(point.row), []).append(point)
        return list(found.values())

    def flat(self, point: Point) -> Point | None:
        """The FLAT index of the same k and server."""
        group = _group(point.row)
        flats = (each for each in self.points if each.type == "FLAT")
        return next((each for each in flats if _group(each.row) == group), None)

    def times_flat(self, point: Point) -> float | None:
        """Its users a second over FLAT's, each at its best number of clients."""
        flat = self.flat(point)
        theirs = flat.users_per_second() if flat else None
        ours = point.users_per_second()
        return ours / theirs if ours is not None and theirs else None

    def point_of(self, row: Row) -> Point | None:
        """The point of Milvus at the parameters of a row of kind floor."""
        found = (each for each in self.points if _same(each.row, row, "index", "search", "k"))
        return next(found, None)

    @property
    def at_k(self) -> str:
        """``@50``, or ``@k`` where several k were measured."""
        lengths = {point.k for point in self.points}
        return f"@{lengths.pop()}" if len(lengths) == 1 else "@k"

    @property
    def last(self) -> Row:
        """Provenance of the row that was measured last."""
        found: Row = self.rows[-1].get("provenance") or {}
        return found

    def provenances(self, name: str) -> list[Any]:
        """The different values of a part of the provenance."""
        return _different((row.get("provenance") or {}).get(name) for row in self.rows)


def view_of(rows: Sequence[Row]) -> View:
    """Sort ``rows``. Of two rows of one setting the later one counts. UserError: there are none."""
    if not rows:
        raise UserError("nothing was measured yet: there are no rows to report")
    good = list(_latest(row for row in rows if "refused" not in row))
    by_kind = {
        kind: [row for row in good if row["kind"] == kind]
        for kind in ("build", "point", "floor", "study")
    }
    servers = {server_of(row) for row in by_kind["build"] + by_kind["point"]}
    lengths = {row["k"] for row in by_kind["point"]}

    def named(row: Row, *, searched: bool) -> str:
        where = [server_of(row)] if len(servers) > 1 else []
        where += [f"k {row['k']}"] if searched and len(lengths) > 1 else []
        name = setting(row["index"], row["search"] if searched else None)
        return f"{name} ({', '.join(where)})" if where else name

    builds = [Build(row, named(row, searched=False)) for row in by_kind["build"]]
    of_build = {build.name: build for build in builds}
    points = []
    for row in by_kind["point"]:
        built = named(row, searched=False)
        points.append(Point(row, named(row, searched=True), built, of_build.get(built)))
    refused = list(_latest(row for row in rows if "refused" in row))
    return View(rows, builds, points, by_kind["floor"], by_kind["study"], refused)


def server_of(row: Row) -> str:
    """Kind of the server that a row was measured on."""
    return str(((row.get("provenance") or {}).get("server") or {}).get("kind", ""))


def identity(row: Row) -> str:
    """What a row measures, whenever and wherever that was."""
    about = ("kind", "index", "search", "k", "engine", "study", "params")
    return json.dumps({name: row.get(name) for name in about}, sort_keys=True)


def _latest(rows: Iterable[Row]) -> Iterable[Row]:
    return {(identity(row), server_of(row)): row for row in rows}.values()


def _group(row: Row) -> str:
    return f"{server_of(row)}, {row['k']}"


def _same(first: Row, second: Row, *names: str) -> bool:
    return all(first.get(name) == second.get(name) for name in names)


def _different(values: Iterable[Any]) -> list[Any]:
    """Each value once, in order; None is no value."""
    found = {json.dumps(value, sort_keys=True): value for value in values if value is not None}
    return list(found.values())
