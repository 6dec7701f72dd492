# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A ranker in use and on disk: it gives the same lists again, or says why it is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_ranking import (
    CATEGORIES,
    ITEMS,
    USERS,
    VECTORS,
    ScoreOnly,
    hits_of,
    interests,
    model_of,
    ranker_of,
    searched,
)

from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.ranking.channels import CHANNELS, TRANSITIONS
from paddlerec_milvus.ranking.features import FEATURES
from paddlerec_milvus.ranking.files import FOLDER, MANIFEST, TABLES, TREES
from paddlerec_milvus.ranking.ranking_model import RankedList, RankingModel, load_ranking


@pytest.fixture
def saved(tmp_path: Path) -> RankingModel:
    model = model_of(ranker_of())
    model.save(tmp_path)
    return model


def load(
    checkpoint: Path, model: str = "m", data: str | None = "d", items: int = ITEMS
) -> RankingModel:
    return load_ranking(checkpoint, VECTORS[:items], CATEGORIES[:items], model, data)


def ranked(model: RankingModel, top_k: int = 20) -> list[RankedList]:
    return [
        model.rank(
            *(one.clicks, one.interests, one.hits, set(one.moment.history.tolist()), top_k),
            explain=True,
        )
        for one in searched(range(5))
    ]


def change(checkpoint: Path, **values: Any) -> None:
    file = checkpoint / FOLDER / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_list_is_the_best_of_the_pool_with_where_each_item_came_from() -> None:
    model, one = model_of(ScoreOnly()), next(searched(range(1)))
    excluded = set(one.moment.history.tolist())
    pool = model.channels.pool(one.clicks, one.hits, excluded)
    scores = VECTORS @ one.interests.T
    best = ranked(model)[0]
    expected = sorted(pool.items, key=lambda item: -scores[item].max())[:20]
    assert best.items.tolist() == expected
    assert best.scores == pytest.approx(scores[expected].max(axis=1), rel=1e-6)
    # of its hits the search has said which interest is the nearest: the first
    nearest = [0 if i in one.hits.items else int(scores[i].argmax()) for i in expected]
    assert best.interests.tolist() == nearest
    assert best.ranks.tolist() == pool.ranks[np.searchsorted(pool.items, expected)].tolist()
    longest = ranked(model, 10_000)[0]
    assert sorted(longest.items) == pool.items.tolist()
    assert longest.items[:20].tolist() == expected
    assert ranked(model, 0)[0].items.shape == (0,)


def test_an_item_follows_a_click_of_the_history_or_none() -> None:
    model = model_of(ScoreOnly())
    follows = {(b, a) for user in USERS for i, b in enumerate(user) for a in user[i + 1 : i + 11]}
    for one, best in zip(searched(range(5)), ranked(model, 10_000), strict=True):
        for item, click in zip(best.items.tolist(), best.follows.tolist(), strict=True):
            clicks = [other for other in one.clicks.tolist() if (other, item) in follows]
            assert click in clicks if clicks else click == 0
    weights = {one: model.channels.tables[TRANSITIONS].hits(np.array([one])) for one in (3, 17)}
    best = model.rank(np.array([17, 3]), interests(1), hits_of([]), {3, 17}, 10_000)
    for item, click in zip(best.items.tolist(), best.follows.tolist(), strict=True):
        of_3, of_17 = (float(hits.total[hits.items == item].sum()) for hits in weights.values())
        # 17 is the older one
        assert click == (0 if of_3 == of_17 == 0 else 3 if of_3 >= 0.8 * of_17 else 17)


def test_nothing_to_rank_is_an_empty_list() -> None:
    model, clicks = model_of(ScoreOnly()), np.array([ITEMS - 1])
    best = model.rank(clicks, interests(1), hits_of([]), set(range(ITEMS)), 10, explain=True)
    assert [len(part) for part in best if part is not None] == [0] * 6
    assert best.ranks.shape == (0, len(CHANNELS))


@pytest.mark.parametrize("extra", [np.nan, np.inf])
def test_a_score_that_is_no_number_is_no_list(extra: float) -> None:
    with pytest.raises(FloatingPointError, match="a score that is no number"):
        ranked(model_of(ScoreOnly(extra)))


def test_what_was_saved_gives_the_same_lists(saved: RankingModel, tmp_path: Path) -> None:
    again = load(tmp_path)
    for theirs, ours in zip(ranked(again), ranked(saved), strict=True):
        for one, other in zip(theirs, ours, strict=True):
            np.testing.assert_array_equal(one, other)
    assert again.manifest == load(tmp_path, data=None).manifest == saved.manifest
    assert again.manifest.digest == saved.manifest.digest
    assert model_of(ranker_of("history_clicks")).manifest.digest != saved.manifest.digest


def test_a_save_replaces_all_of_an_older_one(saved: RankingModel, tmp_path: Path) -> None:
    (tmp_path / FOLDER / "of_an_older_format").write_text("")
    other = model_of(ranker_of("history_clicks"))
    other.save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [FOLDER]
    assert {file.name for file in (tmp_path / FOLDER).iterdir()} == {MANIFEST, TABLES, TREES}
    assert load(tmp_path).manifest == other.manifest != saved.manifest


def test_a_save_that_fails_leaves_the_older_one(saved: RankingModel, tmp_path: Path) -> None:
    broken = model_of(ranker_of())
    del broken.ranker.content
    with pytest.raises(AttributeError):
        broken.save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [FOLDER]
    assert load(tmp_path).manifest == saved.manifest


@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model": "other"}, "another model: m, here other"),
        ({"data": "other"}, "another data: d, here other"),
        ({"items": 30}, f"another item_count: {ITEMS}, here 30"),
    ],
)
def test_a_ranker_serves_its_own_model_and_data_alone(
    tmp_path: Path, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(CheckpointError, match=f"{words}; .*tools/rank.py"):
        load(tmp_path, **given)


@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize("name", ["channels", "features"])
def test_channels_and_features_of_another_version_are_refused(tmp_path: Path, name: str) -> None:
    change(tmp_path, **{name: ["other"]})
    with pytest.raises(CheckpointError, match=rf"another {name}: \['other'\]"):
        load(tmp_path)


@pytest.mark.usefixtures("saved")
def test_a_ranker_of_before_is_told_what_it_lacks(tmp_path: Path) -> None:
    change(tmp_path, features=[one for one in FEATURES if one != "graph_filter_mean"])
    message = r"another features: none of these, here \['graph_filter_mean'\]; train it anew"
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)
    change(tmp_path, features=list(reversed(FEATURES)))
    with pytest.raises(CheckpointError, match=rf"another features: \['{FEATURES[-1]}', "):
        load(tmp_path)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize("name", [TABLES, TREES])
@pytest.mark.parametrize("damage", [flip, cut])
def test_a_file_that_is_not_the_one_that_was_saved_is_refused(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    file = tmp_path / FOLDER / name
    damage(file)
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(file))}: is not the file"):
        load(tmp_path)
    file.unlink()
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(file))}: cannot be read"):
        load(tmp_path)


@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 2}', "\xff"])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / FOLDER / MANIFEST
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(file))}: cannot be read"):
        load(tmp_path)


@pytest.mark.usefixtures("saved")
def test_a_manifest_with_more_in_it_is_refused(tmp_path: Path) -> None:
    change(tmp_path, threads=3)
    with pytest.raises(CheckpointError, match=r"cannot be read: .*threads"):
        load(tmp_path)


def test_where_there_is_none_the_command_that_makes_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no ranker was trained .*: python tools/rank.py"):
        load(tmp_path)
