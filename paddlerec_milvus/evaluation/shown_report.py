# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What became of lists that users were shown: clicks on them, and on a shadow's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.data.shown_lists import LoggedClick, LoggedList, ShownList, ShownLists
from paddlerec_milvus.evaluation.metrics import find_hits, hitrate, reciprocal_rank
from paddlerec_milvus.evaluation.replay import MeasureChange, change_cells, change_of
from paddlerec_milvus.evaluation.results import EvaluationResult, Gain
from paddlerec_milvus.evaluation.statistics import Difference, mean_interval
from paddlerec_milvus.retrieval.base import MISSING_ID

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

KEYS = {"model", "ranker", "source"}
CLICK_THROUGH = "click-through"
WITHIN = timedelta(hours=24)  # of a list, for clicks that name the user alone
BIAS = (
    "Only what was shown can be clicked, and what stands on top is clicked most: the list that was "
    "shown has the better of it. A shadow that places the clicks higher all the same is worth an "
    "A/B test; one that places them lower may be no worse."
)


class ShownResult(EvaluationResult):
    """What became of the lists of one configuration."""

    model: str
    ranker: str | None
    source: str
    lists: int
    clicks: int
    """Clicked items, each once a list."""
    measures: dict[str, Gain]
    """Means over lists by names such as ``click-through@10``, with intervals."""


class ShadowResult(EvaluationResult):
    """A shadow's lists beside the shown ones, over the lists with a click."""

    shown: str
    """The configuration that was shown."""
    shadow: str
    lists: int
    """Lists with a click and a shadow."""
    measures: dict[str, MeasureChange]
    """By names such as ``mrr@10``; ``a`` is of the shown lists, ``b`` of the shadow's."""
    higher: int
    """Clicked items in both lists that the shadow places higher; ``lower``, ``same`` likewise."""
    lower: int
    same: int


class ShownReport(EvaluationResult):
    """All that shown lists and clicks say."""

    format: Literal[1] = 1
    lists: int
    unfinished: int
    """Lines of the log that were not written to their end."""
    clicks: int
    elsewhere: int
    """Clicks without a list, or on an item that its list does not show; they count nowhere."""
    configurations: list[ShownResult]
    shadows: list[ShadowResult]


class _Clicked(NamedTuple):
    """The shown lists, and what was clicked of each."""

    lists: list[ShownList]
    items: list[set[str]]
    elsewhere: int


def shown_report(
    shown: ShownLists, clicks: Sequence[LoggedClick], lengths: Sequence[int]
) -> ShownReport:
    """What became of ``shown`` lists, at each of ``lengths``."""
    clicked = _attributed(shown.lists, clicks)
    configurations = defaultdict[tuple[str, str | None, str], list[int]](list)
    pairs = defaultdict[tuple[str, str], list[int]](list)
    for place, one in enumerate(shown.lists):
        configurations[one.model, one.ranker, one.source].append(place)
        if one.shadow is not None and clicked.items[place]:
            pairs[_name(one), f"{one.shadow.by}: {_name(one.shadow)}"].append(place)
    return ShownReport(
        lists=len(shown.lists),
        unfinished=shown.unfinished,
        clicks=len(clicks),
        elsewhere=clicked.elsewhere,
        configurations=[
            _shown_result(*key, places, clicked, lengths) for key, places in configurations.items()
        ],
        shadows=[_shadow_result(*key, places, clicked, lengths) for key, places in pairs.items()],
    )


def _attributed(lists: list[ShownList], clicks: Sequence[LoggedClick]) -> _Clicked:
    """Each click to the list of its request, or to the user's latest one that shows its item."""
    of_request = defaultdict[tuple[str, int], list[int]](list)
    of_user = defaultdict[str, list[int]](list)
    for place in sorted(range(len(lists)), key=lambda place: lists[place].time):
        one = lists[place]
        of_request[one.request_id, one.row].append(place)
        if one.user is not None:
            of_user[str(one.user)].append(place)
    shows = [set(map(str, one.items)) for one in lists]
    items: list[set[str]] = [set() for _ in lists]
    elsewhere = 0
    for click in clicks:
        places = (
            of_request.get((click.request_id, click.row), [])
            if click.request_id is not None
            else [place for place in of_user[str(click.user)] if _is_after(click, lists[place])]
        )
        item = str(click.item)
        for place in reversed(places):
            if item in shows[place]:
                items[place].add(item)
                break
        else:
            elsewhere += 1
    return _Clicked(lists, items, elsewhere)


def _is_after(click: LoggedClick, shown: ShownList) -> bool:
    """Whether the click came within ``WITHIN`` after the list."""
    return click.time is not None and timedelta() <= click.time - shown.time <= WITHIN


def _gain(difference: Difference) -> Gain:
    return Gain(mean=difference.mean, low=difference.low, high=difference.high)


def _shown_result(
    model: str,
    ranker: str | None,
    source: str,
    places: list[int],
    clicked: _Clicked,
    lengths: Sequence[int],
) -> ShownResult:
    values = _by_list([clicked.lists[place] for place in places], places, clicked, lengths)
    return ShownResult(
        model=model,
        ranker=ranker,
        source=source,
        lists=len(places),
        clicks=sum(len(clicked.items[place]) for place in places),
        measures={name: _gain(mean_interval(array)) for name, array in values.items()},
    )


def _shadow_result(
    shown: str, shadow: str, places: list[int], clicked: _Clicked, lengths: Sequence[int]
) -> ShadowResult:
    lists = [clicked.lists[place] for place in places]
    shadows = [one.shadow for one in lists if one.shadow is not None]
    ours, theirs = (_by_list(some, places, clicked, lengths) for some in (lists, shadows))
    measures = {
        name: MeasureChange(**change_of(ours[name], theirs[name]))
        for name in ours
        if not name.startswith(CLICK_THROUGH)  # of what was not shown there is none
    }
    moves = [
        _rank(one, item) - _rank(other, item)
        for one, other, place in zip(lists, shadows, places, strict=True)
        for item in clicked.items[place] & set(map(str, other.items))
    ]
    return ShadowResult(
        shown=shown,
        shadow=shadow,
        lists=len(places),
        measures=measures,
        higher=sum(move > 0 for move in moves),
        lower=sum(move < 0 for move in moves),
        same=sum(move == 0 for move in moves),
    )


def _rank(one: LoggedList, item: str) -> int:
    return list(map(str, one.items)).index(item)


def _by_list(
    lists: Sequence[LoggedList], places: list[int], clicked: _Clicked, lengths: Sequence[int]
) -> dict[str, FloatArray]:
    """Each measure's value [L] of ``lists``, against what was clicked of those at ``places``."""
    numbers: dict[str, int] = {}
    clicks = [clicked.items[place] for place in places]
    flat = [_number(item, numbers) for items in clicks for item in items]
    indptr = np.concatenate([[0], np.cumsum([len(items) for items in clicks])]).astype(np.int64)
    values: dict[str, FloatArray] = {}
    for top_n in lengths:
        rows = np.full((len(lists), top_n), MISSING_ID, np.int64)
        for row, one in zip(rows, lists, strict=True):
            first = [_number(item, numbers) for item in one.items[:top_n]]
            row[: len(first)] = first
        hits = find_hits(rows, indptr, np.array(flat, np.int64))
        listed = np.maximum((rows != MISSING_ID).sum(axis=1), 1)
        values[f"{CLICK_THROUGH}@{top_n}"] = hits.at.sum(axis=1) / listed
        values[f"hitrate@{top_n}"] = hitrate(hits)
        values[f"mrr@{top_n}"] = reciprocal_rank(hits)
    return values


def _number(item: OwnId, numbers: dict[str, int]) -> int:
    return numbers.setdefault(str(item), len(numbers) + 1)


def _name(one: LoggedList) -> str:
    ranker = "" if one.ranker is None else f" + ranker {one.ranker}"
    return f"{one.source} by {one.model}{ranker}"


def shown_tables(report: ShownReport) -> str:
    """All that is printed of a report."""
    parts = [_heading(report), _table_of_shown(report.configurations)]
    if len(report.configurations) > 1:
        parts.append(
            "These configurations answered different users at different times: that is no A/B test."
        )
    parts += [_words_of_shadow(one) for one in report.shadows]
    return "\n\n".join([*parts, BIAS] if report.shadows else parts)


def _heading(report: ShownReport) -> str:
    text = f"{report.lists:,} shown lists, {report.clicks:,} clicks"
    if report.elsewhere:
        text += f", {report.elsewhere:,} of them on no list that shows their item"
    if report.unfinished:
        text += f"; {report.unfinished} files end in a line that is left out, as it is unfinished"
    return text


def _table_of_shown(results: Iterable[ShownResult]) -> str:
    rows = [
        [
            _name(LoggedList(**one.model_dump(include=KEYS), items=[], scores=[])),
            f"{one.lists:,}",
            f"{one.clicks:,}",
            name,
            f"{100 * gain.mean:.2f}",
            f"{100 * gain.low:.2f} … {100 * gain.high:.2f}",
        ]
        for one in results
        for name, gain in one.measures.items()
    ]
    return tabulate(
        rows,
        headers=["shown", "lists", "clicks", "measure", "per cent", "its 95 % interval"],
        colalign=("left", "right", "right", "left", "right", "right"),
        disable_numparse=True,
    )


def _words_of_shadow(one: ShadowResult) -> str:
    rows = [[name, *change_cells(change)] for name, change in one.measures.items()]
    head = [f"per cent, {one.lists:,} lists with a click", "shown", "shadow", "shadow - shown"]
    table = tabulate(
        rows, headers=[*head, "its 95 % interval"], stralign="right", disable_numparse=True
    )
    return (
        f"shown: {one.shown}\nshadow: {one.shadow}\n\n{table}\n\n"
        f"Of the clicked items that both lists have, the shadow places {one.higher:,} higher, "
        f"{one.lower:,} lower and {one.same:,} at the same place."
    )
