# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Two runs side by side: all that is said of them, before it becomes Markdown or a page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paddlerec_milvus.bench.report.appendix_tables import parts_of
from paddlerec_milvus.bench.report.compare import (
    BEYOND,
    HIDDEN,
    Comparison,
    Pair,
    pairing_key,
    pairs_of,
    same_data,
)
from paddlerec_milvus.bench.report.markdown import Column, Table, escaped, markdown
from paddlerec_milvus.bench.report.steadiness import machine_words
from paddlerec_milvus.bench.report.view import (
    View,
    fraction,
    identity,
    per_cent,
    rounded,
    server_of,
    view_of,
    whole,
)
from paddlerec_milvus.bench.results import (
    BuildResult,
    LibraryResult,
    Refusal,
    RepeatResult,
    Result,
    SearchResult,
    StudyResult,
)
from paddlerec_milvus.retrieval.indexes import setting_name

TITLE = "Two runs side by side"
OTHER_DATA = (
    "OTHER DATA: the two runs searched different vectors, users or clicks. Relevance is not "
    "comparable and left out; index_recall and speed are of different searches."
)
NOISE = (
    "Beyond noise: users/s, when they differ by more than the larger spread of the runs of either "
    "and 5 %; p50 by 5 %, p99 by 10 %, RSS by 5 %; index_recall by two standard errors of the "
    "difference; recall@k, when the 95 % intervals of what is lost do not overlap."
)
DISTURBED = (
    "Load, drift: by how much the load of other programs and steal while one of the two was "
    "measured, or the drift of a run or from one to the other, may have changed a speed. A "
    "difference that is no larger is not beyond noise, whatever the runs of either say; nor is any "
    "difference of a latency beside such load, as a request may wait for any time."
)


@dataclass(frozen=True)
class RunComparison:
    """The parts of a comparison, in order; ``second`` less ``first`` everywhere."""

    first: View
    second: View
    pairs: Sequence[Pair]
    summary: str
    other_data: str
    """Empty where both searched the same."""
    machines: Sequence[str]
    """Load, steal and drift of either."""
    different: Table
    """Parts of the provenance that are not alike."""
    tables: Sequence[Table]
    """What differs beyond noise, then every number."""
    alone: Mapping[str, Sequence[str]]
    """Title → rows that only one of the two has."""


def comparison_of(first: Sequence[Result], second: Sequence[Result]) -> RunComparison:
    """Compare two lists of rows. UserError: no rows, or no setting that both have."""
    ours, theirs = view_of(first), view_of(second)
    pairs = pairs_of(ours, theirs)
    return RunComparison(
        ours,
        theirs,
        pairs,
        summary=_summary(pairs),
        other_data="" if same_data(ours, theirs) else OTHER_DATA,
        machines=[
            f"{name} run: {words}"
            for name, view in (("First", ours), ("Second", theirs))
            if (words := machine_words(view))
        ],
        different=_different(ours, theirs),
        tables=[table for table in (_beyond_table(pairs), *_number_tables(pairs)) if table.lines],
        alone=_alone(ours, theirs),
    )


def compare(first: Sequence[Result], second: Sequence[Result]) -> str:
    """The comparison of two lists of rows as Markdown. UserError as :func:`comparison_of`."""
    return compared_markdown(comparison_of(first, second))


def compared_markdown(comparison: RunComparison) -> str:
    """The whole comparison; what else differs between the runs stands above the numbers."""
    parts = [f"# {TITLE}", comparison.summary]
    parts += [f"**{comparison.other_data}**"] if comparison.other_data else []
    parts += [f"- {escaped(words)}" for words in comparison.machines]
    parts += [markdown(comparison.different)] if comparison.different.lines else []
    parts += [f"## {escaped(table.title)}\n\n{markdown(table)}" for table in comparison.tables]
    for title, rows in comparison.alone.items():
        lines = "\n".join(f"- {escaped(row)}" for row in rows)
        parts.append(f"## {title}\n\n{lines}")
    return "\n\n".join([*parts, NOISE, DISTURBED]) + "\n"


def _summary(pairs: Sequence[Pair]) -> str:
    measures = [measure for pair in pairs for measure in pair.measures]
    verdicts = Counter(measure.verdict for measure in measures)
    beyond, hidden = verdicts[BEYOND], sum(verdicts[name] for name in HIDDEN.values())
    words = f", {whole(hidden)} by no more than load or drift may have done" if hidden else ""
    return (
        f"{whole(len(measures))} numbers compared: {whole(beyond)} differ by more than noise"
        f"{words}, {whole(len(measures) - beyond - hidden)} do not."
    )


def _different(ours: View, theirs: View) -> Table:
    """The parts of the provenance that are not alike."""
    lines = []
    parts, others = parts_of(ours), parts_of(theirs)
    for part in parts:
        one, other = _joined(parts[part]), _joined(others[part])
        lines += [
            (f"{part}: {name}", one.get(name, ""), other.get(name, ""))
            for name in dict.fromkeys([*one, *other])
            if one.get(name) != other.get(name)
        ]
    seeds = [
        ", ".join(str(seed) for seed in view.provenances(lambda row: row.seed))
        for view in (ours, theirs)
    ]
    lines += [("seed", seeds[0], seeds[1])] if seeds[0] != seeds[1] else []
    titles = ("differs", "first", "second")
    columns = [
        Column(title, [line[place] for line in lines], words=True)
        for place, title in enumerate(titles)
    ]
    return Table("What else differs", columns)


def _joined(parts: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Name → all of its values in one text."""
    texts: dict[str, set[str]] = {}
    for part in parts:
        for name, value in part.items():
            text = value if isinstance(value, str) else json.dumps(value)
            texts.setdefault(name, set()).add(text)
    return {name: " and ".join(sorted(values)) for name, values in texts.items()}


def _beyond_table(pairs: Sequence[Pair]) -> Table:
    lines = [
        (f"{pair.name}: {measure.name}", measure)
        for pair in pairs
        for measure in pair.measures
        if measure.verdict == BEYOND
    ]
    return _table("Beyond noise", lines, verdict=False)


def _number_tables(pairs: Sequence[Pair]) -> list[Table]:
    names = list(dict.fromkeys(measure.name for pair in pairs for measure in pair.measures))
    return [
        _table(
            name,
            [(pair.name, value) for pair in pairs for value in pair.measures if value.name == name],
        )
        for name in names
    ]


def _table(title: str, lines: Sequence[tuple[str, Comparison]], verdict: bool = True) -> Table:
    measures = [measure for _, measure in lines]
    columns = [
        Column("setting", [name for name, _ in lines], words=True),
        Column("first", [shown_number(value.name, value.first) for value in measures]),
        Column("second", [shown_number(value.name, value.second) for value in measures]),
        Column("difference", [_signed(value) for value in measures]),
        Column("relative, %", [relative_words(value) for value in measures]),
    ]
    columns.append(Column("load, drift", [value.disturbed for value in measures], words=True))
    if verdict:
        columns.append(Column("verdict", [value.verdict for value in measures], words=True))
    return Table(title, columns)


def shown_number(name: str, value: float) -> str:
    """A value of either run, as all tables write it."""
    return fraction(value) if name in ("index_recall", "recall@k") else rounded(value)


def _signed(measure: Comparison) -> str:
    difference = measure.second - measure.first
    sign = "+" if difference > 0 else ""
    return sign + shown_number(measure.name, difference).replace("-", "\N{MINUS SIGN}")


def relative_words(measure: Comparison) -> str:
    """The difference in per cent of the first; empty where that is 0."""
    if not measure.first:
        return ""
    share = measure.second / measure.first - 1
    return ("+" if share > 0 else "") + per_cent(share, 1)


def _alone(first: View, second: View) -> dict[str, list[str]]:
    """Rows that only one of the two has; a refused one is one that it lacks."""
    key_of = pairing_key(first, second)
    ours, theirs = (
        {key_of(row): row for row in view.rows if not isinstance(row, Refusal | RepeatResult)}
        for view in (first, second)
    )
    alone = {}
    for name, mine, others in (("first", ours, theirs), ("second", theirs, ours)):
        rows = [row for key, row in mine.items() if key not in others]
        if rows:
            alone[f"Only in the {name} run"] = [
                _row_name(row) + ("" if key_of is identity else f" ({server_of(row)})")
                for row in rows
            ]
    return alone


def _row_name(row: BuildResult | SearchResult | LibraryResult | StudyResult) -> str:
    if isinstance(row, BuildResult):
        return f"{row.kind}: {setting_name(row.index)}"
    words = f"{setting_name(row.index, row.search)}, k {row.k}"
    if isinstance(row, LibraryResult):
        return f"{row.engine}: {words}"
    if isinstance(row, StudyResult):
        params = row.measured.params.model_dump(exclude_none=True)
        return f"{row.measured.study}: {words}, {json.dumps(params)}"
    return f"{row.kind}: {words}"
