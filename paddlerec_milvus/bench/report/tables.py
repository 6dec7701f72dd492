# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The tables of a report on settings and builds; those on the rest are in appendix_tables.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from paddlerec_milvus.bench.report.advice import IndexAdvice
from paddlerec_milvus.bench.report.markdown import Column, Table
from paddlerec_milvus.bench.report.view import Loss, Point, View, fraction, per_cent, rounded, whole
from paddlerec_milvus.bench.results import (
    RELEVANCE,
    STAGES,
    BuildMeasurement,
    IndexRecall,
    MeanWithError,
    RelevanceMetric,
)

NOT_SEEN = "not seen above noise"
RANKED_NDCG = "ranked ndcg@10"


def main_table(view: View, advice: Sequence[IndexAdvice], remarks: Mapping[str, str]) -> Table:
    """The columns that one decides by; the advised settings are marked.

    ``remarks``: name of a setting or build → what to remark on it, short.
    """
    points, at_k = view.points, view.at_k
    chosen = {line.setting for line in advice}
    columns = [
        Column("setting", [point.name for point in points], words=True),
        Column(f"index_recall{at_k}", [fraction(point.index_recall) for point in points]),
        Column(f"recall{at_k}, %", [per_cent(point.relevance()) for point in points]),
        _lost_column(f"recall{at_k}", [point.loss() for point in points]),
        _lost_column(RANKED_NDCG, [point.ranked_loss() for point in points]),
        Column("p99, ms", [rounded(point.latency.p99) for point in points]),
        Column("users/s", [rounded(point.users_per_second()) for point in points]),
        Column("times FLAT", [rounded(view.times_flat(point)) for point in points]),
        Column("build, s", [rounded(point.built(lambda build: build.seconds)) for point in points]),
        Column("RSS, MiB", [whole(point.built(lambda build: build.rss_mib)) for point in points]),
        Column("remark", [_remark(point, remarks) for point in points], words=True),
    ]
    marked = frozenset(i for i, point in enumerate(points) if point.name in chosen)
    return Table("Settings", columns, _MAIN_NOTE if any(chosen - {None}) else "", marked)


_MAIN_NOTE = "Bold: the setting of the advice."


def lost(loss: Loss | None) -> str:
    """A loss as a share of what exact search has, with its interval."""
    relative = loss.relative if loss else None
    if relative is None:
        return ""
    if relative[:3] == (0, 0, 0):
        return "0"
    span = f"({per_cent(relative.low)} to {per_cent(relative.high)})"
    return f"{per_cent(relative.mean) if relative.seen else NOT_SEEN} {span}"


def _lost_column(name: str, losses: Sequence[Loss | None]) -> Column:
    values = [loss.relative.mean if loss and loss.relative else None for loss in losses]
    return Column(f"{name} lost, % of it", [lost(loss) for loss in losses], values=values)


def _remark(point: Point, remarks: Mapping[str, str]) -> str:
    names = dict.fromkeys([point.name, point.build_name])  # one and the same without parameters
    return ", ".join(remarks[name] for name in names if name in remarks)


def ranked_table(view: View) -> Table:
    """The ten best items after ranking."""
    points = [point for point in view.points if point.ranked]
    ranked = [point.ranked for point in points if point.ranked]

    def per_cents(metric: RelevanceMetric) -> list[str]:
        return [per_cent(one.relevance.index.mean(metric)) for one in ranked]

    columns = [
        Column("setting", [point.name for point in points], words=True),
        Column(f"index_recall{view.at_k}", [fraction(point.index_recall) for point in points]),
        Column("overlap@10", [_with_error(one.overlap) for one in ranked]),
        Column("recall@10, %", per_cents("recall")),
        _lost_column("recall@10", [point.ranked_loss("recall") for point in points]),
        Column("ndcg@10, %", per_cents("ndcg")),
        _lost_column("ndcg@10", [point.ranked_loss() for point in points]),
    ]
    return Table("After ranking", columns, _RANKED_NOTE)


_RANKED_NOTE = (
    "Each user's ten best items, once the ranker beside the checkpoint has ordered the candidates: "
    "200 that this setting finds (a search parameter that has to reach them, such as ef, is "
    "raised), and those of the other channels, all without the user's history. Lost: against the "
    "same ranker on what exact search finds. overlap@10: the share of those ten that are in these "
    "ten. index_recall is of the lists before ranking."
)


def detail_table(view: View) -> Table:
    """The rest of what is known of each setting."""
    points, at_k = view.points, view.at_k

    def of(value: Callable[[Point], str]) -> list[str]:
        return [value(point) for point in points]

    columns = [
        Column("setting", of(lambda point: point.name), words=True),
        Column(f"index_recall{at_k}, interest", of(lambda p: _with_error(_recall(p).interest))),
        Column(f"index_recall{at_k}, list", of(lambda p: _with_error(_recall(p).list))),
        *(
            Column(f"{name}{at_k}, %", of(lambda p, n=name: per_cent(p.relevance(n))))  # type: ignore[misc]
            for name in RELEVANCE[1:]
        ),
        Column(
            f"recall{at_k} lost, points",
            of(lambda p: _points_lost(p.loss())),
            values=[loss.mean if (loss := point.loss()) else None for point in points],
        ),
        _lost_column(f"ndcg{at_k}", [point.loss("ndcg") for point in points]),
        Column("p50, ms", of(lambda p: rounded(p.latency.p50))),
        Column("p95, ms", of(lambda p: rounded(p.latency.p95))),
        Column("p99.9, ms", of(lambda p: rounded(p.latency.p99_9))),
        Column("requests", of(lambda p: whole(p.latency.requests))),
        Column("users/s, 1 client", of(lambda p: rounded(p.users_per_second(1)))),
        Column("users/s, best", of(lambda p: rounded(p.users_per_second()))),
        Column("its clients", of(lambda p: whole(p.best_clients))),
        Column("merge, ms", of(lambda p: rounded(p.measured.quality.merge_ms))),
        Column("load, %", of(lambda p: _state_share(p, "foreign"))),
        Column("steal, %", of(lambda p: _state_share(p, "steal"))),
        Column("harness, ms", of(lambda p: rounded(p.latency.harness_ms))),
        Column("disk, MiB", of(lambda p: rounded(p.built(lambda build: build.disk_mib)))),
        Column("short lists", of(lambda p: whole(p.measured.quality.short_lists))),
        Column("failures", of(lambda p: whole(p.failures))),
    ]
    return Table("More on each setting", columns)


def _recall(point: Point) -> IndexRecall:
    return point.measured.quality.index_recall


def _with_error(value: MeanWithError) -> str:
    spread = "" if value.se is None else f" ± {fraction(value.se)}"
    return fraction(value.mean) + spread


def _state_share(point: Point, name: Literal["foreign", "steal"]) -> str:
    """Of the machine while the point was measured, in per cent."""
    state = point.measured.machine_state
    return per_cent(getattr(state, name), 1) if state else ""


def _points_lost(loss: Loss | None) -> str:
    """A loss in percentage points, with its interval."""
    if loss is None:
        return ""
    span = f"({per_cent(loss.low, 3)} to {per_cent(loss.high, 3)})"
    return "0" if loss[:3] == (0, 0, 0) else f"{per_cent(loss.mean, 3)} {span}"


def builds_table(view: View) -> Table:
    """Seconds, memory and disk of each index."""
    builds = [build.measured for build in view.builds]
    types = [build.result.index_type for build in view.builds]
    columns = [
        Column("index", [build.name for build in view.builds], words=True),
        Column("rows", [whole(build.rows) for build in builds]),
        *(
            Column(f"{stage}, s", [rounded(build.stage_seconds(stage)) for build in builds])
            for stage in STAGES
        ),
        Column("all, s", [rounded(build.seconds) for build in builds]),
        Column("RSS, MiB", [whole(build.rss_mib) for build in builds]),
        Column("of it empty", [whole(build.rss_empty_mib) for build in builds]),
        Column("added", [rounded(build.rss_added_mib) for build in builds]),
        Column("estimate", [rounded(build.estimate_mib) for build in builds]),
        Column("bytes a vector", [whole(build.rss_bytes_per_vector) for build in builds]),
        Column("disk, MiB", [rounded(build.disk_mib) for build in builds]),
        Column("disk bytes a vector", [whole(build.disk_bytes_per_vector) for build in builds]),
        Column("segments", list(map(_segments, types, builds)), words=True),
        Column("warnings", ["; ".join(build.warnings) for build in builds], words=True),
    ]
    return Table("Building, memory and disk", columns)


def _segments(index_type: str, build: BuildMeasurement) -> str:
    if not build.segments:
        return ""
    count, bare = len(build.segments), sum(not part.indexed for part in build.segments)
    flat = index_type == "FLAT"  # has none by its nature
    return f"{count}, {bare} without index" if bare and not flat else str(count)


def throughput_table(view: View) -> Table:
    """Users a second by the number of clients."""
    numbers = sorted({number for point in view.points for number in point.throughput})
    points = [point for point in view.points if point.throughput]
    columns = [
        Column("setting", [point.name for point in points], words=True),
        *(
            Column(f"{number}", [_rate(point, number) for point in points], words=False)
            for number in numbers
        ),
    ]
    note = "Users a second of so many clients together; in brackets p99 in ms."
    return Table("Throughput by clients", columns, note)


def _rate(point: Point, clients: int) -> str:
    load = point.throughput.get(clients)
    return f"{rounded(load.users_per_second)} ({rounded(load.p99)})" if load else ""


def batches_table(view: View) -> Table:
    """Users a second when one call asks for many of them."""
    points = [point for point in view.points if point.measured.batches]
    sizes = sorted({batch.users for point in points for batch in point.measured.batches})

    def rates(size: int) -> Iterable[str]:
        for point in points:
            batches = (batch for batch in point.measured.batches if batch.users == size)
            yield rounded(next((batch.users_per_second for batch in batches), None))

    columns = [Column(f"{size} a call", list(rates(size))) for size in sizes]
    names = Column("setting", [point.name for point in points], words=True)
    return Table("Batches", [names, *columns], "Users a second of one client, many in one call.")
