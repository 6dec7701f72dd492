# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Standard errors and the paired bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.evaluation import statistics
from paddlerec_milvus.evaluation.statistics import paired_bootstrap, standard_error


def test_standard_error_by_hand():
    # mean 3, squares of deviations 4 + 1 + 9 = 14, s² = 14 / 2 = 7, standard error sqrt(7 / 3)
    assert standard_error([1, 2, 6]) == pytest.approx(np.sqrt(7 / 3))
    assert np.isnan(standard_error([5.0]))


def test_a_constant_difference_has_no_width():
    # exact in binary: 0.5 is 25 % of 2
    base = np.full(100, 2.0)
    found = paired_bootstrap(base + 0.5, base, resamples=50)
    assert (found.mean, found.low, found.high, found.relative) == (0.5, 0.5, 0.5, 0.25)


def test_interval_is_the_normal_one_for_many_users():
    rng = np.random.default_rng(2)
    hard = rng.normal(size=2_000)  # what makes a user hard is common to both and must cancel
    ours, theirs = hard + rng.normal(0.03, 0.5, 2_000), hard
    found = paired_bootstrap(ours, theirs)
    width = 1.96 * standard_error(ours - theirs)
    assert found.mean == pytest.approx(np.mean(ours - theirs))
    assert found.low == pytest.approx(found.mean - width, abs=0.05 * width)
    assert found.high == pytest.approx(found.mean + width, abs=0.05 * width)


def test_turned_round_it_is_the_opposite_and_a_seed_gives_it_again(monkeypatch):
    rng = np.random.default_rng(3)
    one, two = rng.random(200), rng.random(200)
    found, turned = paired_bootstrap(one, two, 500, seed=7), paired_bootstrap(two, one, 500, seed=7)
    assert (found.low, found.high) == pytest.approx((-turned.high, -turned.low))
    monkeypatch.setattr(statistics, "_BLOCK", 10_000)  # drawn in parts
    assert paired_bootstrap(one, two, 500, seed=7) == found
    assert paired_bootstrap(one, two, 500, seed=8) != found


def test_values_of_other_users_are_refused():
    with pytest.raises(SettingsError, match=r"\[3\] and \[2\]"):
        paired_bootstrap([1, 2, 3], [1, 2])


def test_of_one_user_there_is_one_draw():
    one = paired_bootstrap([1.0], [0.0])
    assert (one.mean, one.low, one.high) == (1.0, 1.0, 1.0)
    assert np.isnan(one.relative)
