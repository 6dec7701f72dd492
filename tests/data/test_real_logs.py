# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Counts and the popularity baseline on real logs, which a checkout may have beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.data.log import read_click_log
from paddlerec_milvus.data.prepare import prepare
from paddlerec_milvus.data.prepared import open_prepared, read_titles
from paddlerec_milvus.data.sources import Interactions
from paddlerec_milvus.evaluation.baselines import most_popular
from paddlerec_milvus.evaluation.metrics import relevance

LOGS = Path(__file__).parents[3] / "shared" / "data"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not LOGS.is_dir(), reason="no real click logs in ../shared/data"),
]


@pytest.mark.parametrize(
    ("name", "counts", "test_users", "popular_recall"),
    [
        ("goodbooks_mix", (13_440, 9_347, 581_757), 1_344, 11.918),
        ("s3rec_sports", (35_598, 18_357, 296_337), 3_560, 3.709),
        ("s3rec_beauty", (22_363, 12_101, 198_502), 2_237, 4.323),
    ],
)
def test_counts_and_most_popular(
    tmp_path: Path,
    name: str,
    counts: tuple[int, int, int],
    test_users: int,
    popular_recall: float,
) -> None:
    log = LOGS / name / "interactions.csv"
    titles = LOGS / name / "items.csv"
    source = Interactions(log, titles if titles.exists() else None)
    meta = prepare(source, tmp_path / "out").meta
    assert (meta["users"], meta["items"], meta["clicks"]) == counts
    prepared = open_prepared(tmp_path / "out")
    train, test = read_click_log(prepared.train_dir), read_held_out(prepared.test_dir)
    assert len(test) == test_users
    assert len(read_titles(prepared.folder)) == (counts[1] if titles.exists() else 0)
    found = np.tile(most_popular(train, 50), (len(test), 1))
    got = relevance(found, test.truth_indptr, test.truths, 50)
    assert round(100 * got["recall@50"], 3) == popular_recall
    # the numbering was the contract's already: every click keeps its item
    raw = read_click_log([log])
    rows = np.searchsorted(raw.user_ids, train.user_ids)
    kept = np.concatenate([raw.items[raw.indptr[row] : raw.indptr[row + 1]] for row in rows])
    assert np.array_equal(kept, train.items)


def test_paddlerecs_demo_opens_as_it_is() -> None:
    prepared = open_prepared(LOGS / "paddlerec_demo")
    assert prepared.test_dir == prepared.valid_dir
    assert len(read_held_out(prepared.test_dir)) == 499  # its last line has no line break
    assert prepared.item_count <= 367_983
