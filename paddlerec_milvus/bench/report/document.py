# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""All that a report says, in order, before it becomes Markdown or a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paddlerec_milvus.bench.report.advice import IndexAdvice, advise
from paddlerec_milvus.bench.report.appendix_tables import (
    library_table,
    open_loop_table,
    origin_table,
    refused_table,
    study_tables,
)
from paddlerec_milvus.bench.report.markdown import Table, escaped, markdown
from paddlerec_milvus.bench.report.steadiness import machine_words
from paddlerec_milvus.bench.report.tables import (
    batches_table,
    builds_table,
    detail_table,
    main_table,
    ranked_table,
    throughput_table,
)
from paddlerec_milvus.bench.report.view import View, whole
from paddlerec_milvus.bench.report.warnings import Remark, by_name, remarks_of, sentences

DEFINITIONS = {
    "request": "One user: one search call with all of the user's interest vectors. Latency and "
    "users/s are of that call; merging its results into one list of k items comes after it and "
    "stands apart (merge).",
    "index_recall@k": "Share of the exact k nearest items that the index returns, by id, equally "
    "good ones counted as found; for each interest vector (interest) and for the merged list "
    "(list, and where nothing else is said). ± is one standard error. It says nothing of clicks.",
    "recall@k, ndcg@k, ndcg_hits@k, hitrate@k": "Relevance of the merged list against the clicks "
    "that were held out: the share of a user's clicks in it, their discounted gain over the best "
    "possible one, the same over the hits alone, and the share of users with any; means over "
    "users.",
    "lost": "Relevance of exact search less that of the index, over the same users; relative to "
    "exact search (% of it) or in percentage points. In brackets the 95 % interval, by a paired "
    "bootstrap over users. An interval that holds 0: not seen above noise. Negative: the "
    "index's lists hold more of these clicks than the exact ones; where the whole interval lies "
    "below 0, by more than these users' noise.",
    "p50, p95, p99, p99.9": "Latency of the search call of one user, in milliseconds, below which "
    "so many per cent of requests stay; one client that asks for one user after another, its "
    "client library included, the merge not.",
    "users/s": "Users answered a second by clients that ask again as soon as they are answered, "
    "each a process; the best over the numbers of clients, the median of its runs.",
    "times FLAT": "users/s over those of FLAT, Milvus' exact search, each at its best number of "
    "clients.",
    "build, s": "Seconds of inserting, compacting, indexing and loading, one after another.",
    "RSS": "Resident memory of the server's processes, started anew with this index loaded and "
    "nothing else. added: above the empty server. estimate: of the index, before it was built.",
    "disk": "What the server keeps on disk, logs left out.",
    "merge, harness": "Milliseconds a user that merging the interests' results takes (merge_ms, "
    "beside the latency and not in it), and that the measuring loop itself adds to a request.",
    "short lists": "Users whose list holds fewer items than exact search finds.",
    "advice": "The most users/s among settings that lose at most 0.1 % of recall@k, or, where "
    "nobody clicked, whose index_recall is at least 0.99; within 3 % the lower p99. None where "
    "load, steal or drift of more than 5 % is larger than the difference to another such setting.",
    "load, steal, drift": "Shares of all cores' time, while a setting was measured, that other "
    "programs used (not the clients, nor Milvus) and that a virtual machine's host took; by how "
    "much the speed of a fixed piece of work differs over the run, and that of the first setting, "
    "timed again at the end (mean over the numbers of clients and p50).",
}
PASTE = "To use it (tools/infer.py; the service takes it in SERVING_OPTIONS, without -o):"


@dataclass(frozen=True)
class IndexReport:
    """The parts of a report; tables without lines are left out."""

    title: str
    measured: str
    machine: str
    """Load, steal and drift meanwhile."""
    advice: Sequence[IndexAdvice]
    main: Table
    remarks: Sequence[Remark]
    tables: Sequence[Table]

    @property
    def warnings(self) -> list[str]:
        """What looks wrong, in sentences."""
        return sentences(self.remarks)


def report_of(view: View) -> IndexReport:
    """Put it together."""
    advice, remarks = advise(view), remarks_of(view)
    name = view.last.data.name or view.last.sweep
    tables = [
        ranked_table(view),
        detail_table(view),
        throughput_table(view),
        batches_table(view),
        builds_table(view),
        library_table(view),
        open_loop_table(view),
        *study_tables(view),
        refused_table(view),
        origin_table(view),
    ]
    return IndexReport(
        title=f"Index benchmark: {name}" if name else "Index benchmark",
        measured=measured(view),
        machine=machine_words(view),
        advice=advice,
        main=main_table(view, advice, by_name(remarks)),
        remarks=remarks,
        tables=[table for table in tables if table.lines],
    )


def measured(view: View) -> str:
    """Data, server, machine and k in a few words."""
    data, machine = view.last.data, view.last.machine
    servers = view.provenances(lambda row: row.server)
    # a row measured before the server answered has no version
    versioned = {server.kind for server in servers if server.version}
    names = [
        f"{server.version} ({server.kind})".strip()
        for server in servers
        if server.version or server.kind not in versioned
    ]
    words = f"{data.name}: {whole(data.items)} items x {data.dimension}"
    words += f", {whole(data.users)} users with {data.interests} interests each, {data.metric}"
    words += f", {data.split}" if data.split else ""
    parts = [words, f"Milvus {', '.join(names)}"]
    lengths = sorted({point.k for point in view.points})
    parts += [f"k {', '.join(map(str, lengths))}"] if lengths else []
    machines = view.provenances(lambda row: row.machine)
    if len(machines) > 1:
        parts.append(f"{len(machines)} different machines")
    elif machine:
        memory = f", {machine['memory_gib']} GiB" if "memory_gib" in machine else ""
        parts.append(f"{machine.get('cores', '?')} cores{memory}")
    return "; ".join(parts) + "."


def as_markdown(report: IndexReport) -> str:
    """The whole report; the first screen is what one decides by."""
    parts = [f"# {escaped(report.title)}", escaped(report.measured), escaped(report.machine)]
    for line in report.advice:
        parts.append(f"**Advice.** {escaped(line.text)}")
        parts += [f"{PASTE} `-o {line.options}`"] if line.options else []
    if report.main.lines:
        parts += [markdown(report.main), escaped(report.main.note)]
    if report.warnings:
        parts += ["## Warnings", "\n".join(f"- {escaped(line)}" for line in report.warnings)]
    for table in report.tables:
        parts += [f"## {escaped(table.title)}", escaped(table.note), markdown(table)]
    lines = [f"- **{escaped(name)}**: {escaped(text)}" for name, text in DEFINITIONS.items()]
    parts += ["## Definitions", "\n".join(lines)]
    return "\n\n".join(part for part in parts if part) + "\n"
