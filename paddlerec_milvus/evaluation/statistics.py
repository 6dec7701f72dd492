# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""How sure a mean is, and a difference of two means over the same users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from paddlerec_milvus.errors import SettingsError

_BLOCK = 4_000_000  # drawn numbers at a time
_MANY = 50_000  # values, of which a mean is as good as normal, and a bootstrap takes minutes
_NORMAL = 1.96


def standard_error(values: ArrayLike) -> float:
    """Standard error of the mean of ``values`` [n]: s / sqrt(n), s with n - 1; nan below two."""
    array = np.asarray(values, dtype=np.float64)
    return float(stats.sem(array)) if len(array) > 1 else float("nan")


@dataclass(frozen=True)
class Difference:
    """A mean difference over users and its bootstrap interval, in the unit of the values."""

    mean: float
    low: float
    high: float
    relative: float
    """``mean`` over the second one's mean; nan where that is 0."""


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 1,
) -> Difference:
    """``first`` - ``second`` [U] of the same users, its mean and percentile interval.

    Users are drawn with replacement, each with both values, ``resamples`` times (Efron and
    Tibshirani 1993, chapter 13). Raises SettingsError when the two are not of the same users.
    """
    ours, theirs = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if ours.shape != theirs.shape or ours.ndim != 1 or not len(ours):
        raise SettingsError(
            f"a paired difference needs two values of each user, given {list(ours.shape)} and "
            f"{list(theirs.shape)}"
        )
    differences = ours - theirs
    base, mean = float(theirs.mean()), float(differences.mean())
    low = high = mean  # of one user there is one draw, which scipy refuses
    if len(differences) > 1:
        low, high = stats.bootstrap(
            (differences,),
            np.mean,
            n_resamples=resamples,
            batch=max(_BLOCK // len(differences), 1),
            confidence_level=level,
            method="percentile",
            random_state=np.random.default_rng(seed),
        ).confidence_interval
    return Difference(mean, float(low), float(high), mean / base if base else float("nan"))


def mean_interval(values: ArrayLike, resamples: int = 2_000) -> Difference:
    """The mean of ``values`` [n] with its 95 % interval: by bootstrap, of many by standard error.

    ``relative`` is nan, as there is nothing to compare with. SettingsError: there is no value.
    """
    array = np.asarray(values, np.float64)
    if len(array) <= _MANY:
        return paired_bootstrap(array, np.zeros_like(array), resamples)
    mean, half = float(array.mean()), _NORMAL * standard_error(array)
    return Difference(mean, mean - half, mean + half, float("nan"))
