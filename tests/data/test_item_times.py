# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""When items were clicked: counted before the valid truths alone, and refused where it is not."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from paddlerec_milvus.data.dataset import Dataset
from paddlerec_milvus.data.files import sha256_of
from paddlerec_milvus.data.fingerprint import fingerprint_of
from paddlerec_milvus.data.item_times import ItemTimes, read_item_times
from paddlerec_milvus.data.log import read_click_log
from paddlerec_milvus.data.prepare import write_dataset
from paddlerec_milvus.data.prepared import ITEM_TIMES, META
from paddlerec_milvus.data.raw_log import RawLog, raw_log
from paddlerec_milvus.data.split import split_log
from paddlerec_milvus.data.split_choice import (
    BY_USERS,
    LEAVE_ONE_OUT,
    TIME,
    SplitChoice,
    split_lines,
)
from paddlerec_milvus.errors import DataError

BEGIN, DAY = datetime(2014, 6, 1, tzinfo=timezone.utc), 86_400
VALID, TEST = 50, 60  # days
Clicks = list[tuple[int, int, float]]  # user, item, day


def as_log(clicks: Clicks, ticks: int = 1) -> RawLog:
    users, items, days = zip(*clicks, strict=True)
    times = [int((BEGIN.timestamp() + day * DAY) * ticks) for day in days]
    return raw_log(pl.Series(users), pl.Series(items), np.array(times))


def split(clicks: Clicks, ticks: int = 1) -> Dataset:
    moments = (BEGIN + timedelta(days=day) for day in (TEST, VALID))
    return split_log(as_log(clicks, ticks), min_count=2, choice=SplitChoice(TIME, *moments))


def random_clicks(later_seed: int = 0) -> Clicks:
    """Of 30 users in 80 days; the seed deals the items of what they click from ``VALID`` on."""
    rng = np.random.default_rng(1)
    users, days = rng.integers(0, 30, 600), rng.uniform(0, 80, 600)
    items = rng.integers(1, 20, 600)
    later = days >= VALID
    items[later] = np.random.default_rng(later_seed).permutation(items[later])
    return list(zip(users.tolist(), items.tolist(), days.tolist(), strict=True))


def written(folder: Path, dataset: Dataset) -> Path:
    folder.mkdir()
    write_dataset(folder, dataset, {"source": {}})
    return folder


def read(folder: Path) -> ItemTimes | None:
    item_count = json.loads((folder / META).read_text())["item_count"]
    return read_item_times(folder, read_click_log(folder / "train"), item_count)


def test_a_table_by_hand(tmp_path: Path) -> None:
    # 20 train clicks: the last tenth are the two from day 46 on, so windows are of 4 days
    days = [*range(11), 39, 41.5, 42, 43, 44, 45, 45.9, 46, 49.9]
    clicks = [(n % 2, 5 if n == 19 else 6 + n % 3, day) for n, day in enumerate(days)]
    later = [(user, item, 55) for user in (0, 1) for item in (5, 9)]
    clicks += [*later, *((user, 9, 70) for user in (0, 1))]
    dataset = split(clicks)
    times = dataset.item_times
    assert times is not None
    assert times.window == 4 * DAY
    source = dataset.items["source_id"].to_list()
    rows = {int(source[item - 1]): row for item, *row in times.frame.iter_rows()}
    for item in (6, 7, 8):
        own = [day for n, day in enumerate(days) if n != 19 and 6 + n % 3 == item]
        counts = [
            sum(low <= day < high for day in own) for low, high in ((0, 42), (42, 46), (46, 50))
        ]
        assert rows[item] == [int(BEGIN.timestamp()) + own[0] * DAY, *counts]
    assert rows[5] == [int(BEGIN.timestamp() + 49.9 * DAY), 0, 0, 1]
    assert 9 not in rows  # clicked from valid on alone
    read_back = read(written(tmp_path / "data", dataset))
    assert read_back is not None
    assert read_back.age[source.index("5") + 1] == pytest.approx(0.1, abs=1e-4)
    assert np.isnan(read_back.age[[0, source.index("9") + 1]]).all()
    meta = json.loads((tmp_path / "data" / META).read_text())
    assert "of the 4.0 days before valid" in "\n".join(split_lines(meta))


@pytest.mark.parametrize("ticks", [1000, 10**6])
def test_the_unit_of_times_makes_no_difference(ticks: int) -> None:
    seconds, scaled = split(random_clicks()).item_times, split(random_clicks(), ticks).item_times
    assert seconds is not None
    assert scaled is not None
    assert scaled.frame["first"].to_list() == seconds.frame["first"].to_list()
    assert scaled.window == pytest.approx(seconds.window, abs=1)


def test_what_was_clicked_later_changes_nothing(tmp_path: Path) -> None:
    tables = [
        (written(tmp_path / str(seed), split(random_clicks(seed))) / ITEM_TIMES).read_bytes()
        for seed in (0, 5)
    ]
    assert tables[0] == tables[1]
    valid = [(tmp_path / str(seed) / "valid" / "part-0").read_bytes() for seed in (0, 5)]
    assert valid[0] != valid[1]


def test_a_table_that_counts_a_later_click_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", split(random_clicks()))
    assert read(folder) is not None
    honest, meta = (folder / ITEM_TIMES).read_text(), json.loads((folder / META).read_text())

    def plant(text: str) -> None:
        """As a prepare.py would that counts too much: the sum in meta.json is that of the table."""
        (folder / ITEM_TIMES).write_text(text)
        meta["files"][ITEM_TIMES]["sha256"] = sha256_of(folder / ITEM_TIMES)
        (folder / META).write_text(json.dumps(meta))

    head, row, *rows = honest.splitlines()
    *start, last = row.split(",")
    plant("\n".join([head, ",".join([*start, str(int(last) + 1)]), *rows]))
    with pytest.raises(
        DataError, match="item 1 has a click that is none of train/, from 2014-07-21"
    ):
        read(folder)
    item, _, *counts = row.split(",")
    late = str(int(BEGIN.timestamp()) + 55 * DAY)
    plant("\n".join([head, ",".join([item, late, *counts]), *rows]))
    with pytest.raises(DataError, match="item 1 has a click that is none of train/"):
        read(folder)
    for damaged in (honest.replace(",", ";"), f"{honest}400,1,1,1,1\n"):
        plant(damaged)
        with pytest.raises(DataError, match=f"{ITEM_TIMES}: cannot be read .*--overwrite"):
            read(folder)
    plant(honest)
    (folder / ITEM_TIMES).write_text(honest.replace("1", "2", 1))
    with pytest.raises(DataError, match=r"is not the file that prepare\.py wrote"):
        read(folder)


def test_no_model_learns_from_it_so_the_data_are_the_same_without(tmp_path: Path) -> None:
    folder = written(tmp_path / "data", split(random_clicks()))
    before, meta = fingerprint_of(folder), json.loads((folder / META).read_text())
    del meta["files"][ITEM_TIMES]
    (folder / META).write_text(json.dumps(meta))
    assert fingerprint_of(folder) == before
    assert read(folder) is None  # as a folder of before there was such a table


@pytest.mark.parametrize("choice", [BY_USERS, SplitChoice(LEAVE_ONE_OUT)])
def test_other_splits_have_none(tmp_path: Path, choice: SplitChoice) -> None:
    dataset = split_log(as_log(random_clicks()), min_count=3, choice=choice)
    folder = written(tmp_path / "data", dataset)
    assert not (folder / ITEM_TIMES).exists()
    assert "item_window" not in json.loads((folder / META).read_text())
    assert read(folder) is None
