# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Quotas as settings: what is refused, what a channel of none is, and that a ranker has its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_ranking import ITEMS, ScoreOnly, channels, hits_of, interests, model_of
from support import write_yaml

from paddlerec_milvus.config import load_settings
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.ranking.channels import (
    CHANNELS,
    INTERESTS,
    POPULAR,
    QUOTAS,
    SEARCHED,
    quotas_of,
)
from paddlerec_milvus.ranking.files import FIRST_QUOTAS, MANIFEST, RankingManifest, read_manifest
from paddlerec_milvus.ranking.ranking_model import warn_of_other_quotas
from paddlerec_milvus.settings import QuotaSettings

HISTORY = np.array([3, 17])


def test_a_yaml_and_options_set_them(tmp_path: Path) -> None:
    file = write_yaml(tmp_path / "config.yaml", {"ranking": {"quotas": {"popular": 70}}})
    quotas = load_settings(
        file, ["ranking.quotas.interests=0", "ranking.quotas.new=9"]
    ).ranking.quotas
    assert quotas == QuotaSettings(popular=70, interests=0, new=9)
    assert load_settings("mind/config.yaml").ranking.quotas == QuotaSettings()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("popular=-1", "ranking.quotas.popular: -1: input should be greater than or equal to 0"),
        ("popular=20000", "ranking.quotas.popular: 20000: input should be less than or equal to"),
        ("popular=many", "ranking.quotas.popular: 'many': input should be a valid integer"),
        ("popular=1.5", "ranking.quotas.popular: 1.5: input should be a valid integer"),
        ("poplar=3", "unknown key 'ranking.quotas.poplar' .did you mean 'quotas.popular'"),
    ],
)
def test_what_is_no_quota_is_refused(option: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load_settings("mind/config.yaml", [f"ranking.quotas.{option}"])


def test_no_candidate_at_all_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"ranking\.quotas\.interests: 0, as all others"):
        load_settings("mind/config.yaml", [f"ranking.quotas.{name}=0" for name in CHANNELS])
    times_alone = QuotaSettings(**dict.fromkeys(QUOTAS, 0))
    assert quotas_of(times_alone, timed=True) == {"rising": 50, "new": 50}
    with pytest.raises(SettingsError, match="rising and new alone, and when items were clicked"):
        quotas_of(times_alone, timed=False)


def test_a_channel_of_none_gives_none_and_the_others_are_as_before() -> None:
    excluded, hits = {3, 17}, hits_of([9, 8, 30])
    whole = channels().pool(HISTORY, hits, excluded)
    for name in QUOTAS:
        others = {one: most for one, most in QUOTAS.items() if one != name}
        pool = channels()._replace(quotas=others).pool(HISTORY, hits, excluded)
        column = CHANNELS.index(name)
        left = np.delete(whole.ranks, column, axis=1).any(axis=1)
        assert pool.items.tolist() == whole.items[left].tolist()
        assert not pool.ranks[:, column].any()
        ranks = np.delete(pool.ranks, column, axis=1)
        assert ranks.tolist() == np.delete(whole.ranks, column, axis=1)[left].tolist()


def test_the_search_is_as_long_as_the_quota_and_an_unranked_list_want() -> None:
    for quotas, searched in (({POPULAR: 5}, SEARCHED), ({INTERESTS: 500}, 500), (QUOTAS, SEARCHED)):
        assert channels()._replace(quotas=quotas).searched == searched
    model = model_of(ScoreOnly())
    model.channels = model.channels._replace(quotas={INTERESTS: 2, POPULAR: 3})
    best = model.rank(HISTORY, interests(1), hits_of([9, 8, 30, 31]), {3, 17}, 50)
    assert sorted(best.items.tolist()) == [1, 2, 4, 8, 9]
    assert model.channels.most == 5


def test_a_ranker_of_before_has_the_first_quotas_and_its_digest(tmp_path: Path) -> None:
    assert FIRST_QUOTAS == QUOTAS
    manifest = model_of(ScoreOnly()).manifest
    before = manifest.model_dump(exclude={"quotas"})
    (tmp_path / MANIFEST).write_text(json.dumps(before))
    assert read_manifest(tmp_path) == manifest
    old = RankingManifest(
        **{"model": "m", "data": "d", "item_count": ITEMS, "channels": ["interests"]},
        **{"features": ["a"], "used": ["a"], "start": 0.5, "seed": 1, "lists": 2, "files": {}},
    )
    # made before quotas were settings
    assert old.digest == "ff6ac613b5c578ae"
    assert old.model_copy(update={"quotas": {INTERESTS: 9}}).digest != old.digest


def test_settings_that_a_ranker_does_not_follow_are_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = model_of(ScoreOnly()).manifest
    same = ["ranking.quotas.popular=50", "ranking.quotas.new=0"]
    warn_of_other_quotas(load_settings("mind/config.yaml", same), manifest)
    warn_of_other_quotas(load_settings("mind/config.yaml"), manifest)
    assert capsys.readouterr().err == ""
    other = load_settings("mind/config.yaml", ["ranking.quotas.popular=70"])
    warn_of_other_quotas(other, manifest)
    words = "warning: ranking.quotas: popular 70 (the ranker has 50): not followed; train"
    assert words in capsys.readouterr().err


def test_none_in_a_manifest_is_no_quota(tmp_path: Path) -> None:
    values = model_of(ScoreOnly()).manifest.model_dump() | {"quotas": {POPULAR: 0}}
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        RankingManifest.model_validate(values)
