# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The gate compares what users would get, whatever the logs of both days number their items."""

from __future__ import annotations

import shutil

import numpy as np
import polars as pl
import pytest
from export_of_a_day import Days

from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.data.id_map import read_item_ids
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.evaluation.ranking_report import LONGEST
from paddlerec_milvus.evaluation.replay import MeasureChange
from paddlerec_milvus.evaluation.results import Gain
from paddlerec_milvus.export.exported_model import read_export
from paddlerec_milvus.export.manifest import VECTORS
from paddlerec_milvus.update.export_lists import ExportLists
from paddlerec_milvus.update.gate import INDEX_RECALL, MARGINS, GateRow, gate_rows, margins_of


def test_margins_of_the_command_line():
    assert margins_of([]) == MARGINS
    assert margins_of(["shown_ndcg@10=-0.02", f"{INDEX_RECALL}=1"])[INDEX_RECALL] == 1.0
    for word in ("recall=-0.1", "recall@50=0.1", "recall@50=-2", "recall@500=-0.1", "x@1=-1", "a"):
        with pytest.raises(SettingsError, match=f"--gate {word}"):
            margins_of([word])


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-0.005, 0.02, None),
        (-0.03, -0.02, "-3.00 … -2.00 points, below the margin -1"),
        (-0.02, 0.01, r"it may be below the margin -1; about 900 users .*--gate recall@50=-0.02"),
    ],
)
def test_what_passes_is_surely_not_worse_than_the_margin(low, high, words):
    change = MeasureChange(a=0.5, b=0.5, change=Gain(mean=(low + high) / 2, low=low, high=high))
    row = GateRow("recall@50", change, -0.01, 900)
    assert row.passes is (words is None)
    if words is not None:
        with pytest.raises(ValueError, match=words):
            raise ValueError(row.reason(100))


def test_the_same_model_is_not_worse_and_noise_is(days: Days, trained):
    users, items = read_held_out(trained.data / "test"), read_item_ids(trained.data)
    rows, count = gate_rows(days.one, days.one, users, items, MARGINS)
    assert count == len(users)
    assert [row.name for row in rows] == ["recall@50", "ndcg@10"]
    assert all(row.change.change.low == row.change.change.high == 0 for row in rows)
    worse, _ = gate_rows(days.two, days.one, users, items, MARGINS)
    assert not any(row.passes for row in worse)


def test_lists_are_the_same_where_items_have_other_numbers(days: Days, trained, tmp_path):
    """Yesterday's export: the same model, its items numbered the other way round."""
    place = shutil.copytree(days.one.checkpoint, tmp_path / "yesterday")
    vectors = np.load(place / VECTORS)
    table = pl.read_csv(place / "data" / "items.csv", infer_schema=False)
    turned = table.with_columns(source_id=pl.col("source_id").reverse())
    turned.write_csv(place / "data" / "items.csv")
    vectors[1:] = vectors[1:][::-1].copy()
    np.save(place / VECTORS, vectors)
    users, items = read_held_out(trained.data / "test"), read_item_ids(trained.data)
    today = ExportLists(days.one, items, 301)
    yesterday = ExportLists(read_export(place), items, 301)
    history = [np.array([3, 7, 12])]
    assert yesterday.translated(users)[0].tolist() == [
        301 - item for item in users.history_list()[0].tolist()
    ]
    # the towers' own tables differ now, so a list is compared for the same interests
    listed = yesterday._in_log(yesterday.candidates([301 - history[0]], 300))
    assert sorted(listed[0][listed[0] > 0]) == sorted(set(range(1, 301)) - {3, 7, 12})
    assert len(today.candidates(history, 300)[0]) == 300


def test_users_without_a_known_item_get_popular_ones_and_lost_items_hit_nothing(days, trained):
    users = read_held_out(trained.data / "test")
    strangers = read_item_ids(None)  # numbers above 300 are none of the export's
    lists = ExportLists(days.one, strangers, 301)
    assert lists.candidates([np.empty(0, np.int64)], 5).tolist() == [[1, 2, 3, 4, 5]]
    fewer = ExportLists(days.one, strangers, 11)  # today's log has the items 1 … 10 alone
    offered = fewer.offered(_few(users), 50, rank=False).candidates
    assert set(offered[(offered > 0) & (offered < 11)]) <= set(range(1, 11))
    assert (np.sort(offered, axis=1)[:, 1:] != np.sort(offered, axis=1)[:, :-1])[:, -10:].all()


def test_a_ranker_of_whose_items_nobody_clicked_one_gives_popular_items(days, trained, monkeypatch):
    strangers = read_item_ids(None)
    lists = ExportLists(days.one, strangers, 301)
    lists._known[:] = 0
    monkeypatch.setattr("paddlerec_milvus.update.export_lists.load_ranking", lambda *_: None)
    users = _few(read_held_out(trained.data / "test"))
    shown = lists._ranked(users, lists.translated(users))
    assert shown.shape == (len(users), LONGEST)
    assert (shown == np.arange(1, LONGEST + 1)).all()


def _few(users):
    from paddlerec_milvus.update.gate import some_users

    few = some_users(users, 4)
    return type(few)(
        few.user_ids, few.history_indptr, 1 + few.history % 10, few.truth_indptr, few.truths
    )
