# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Whom lists are measured on: the split, and the truths that no list can hit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.data.held_out import HeldOutUsers
from paddlerec_milvus.data.prepared import split_words_beside
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.evaluation.results import HeldOutSummary
from paddlerec_milvus.settings import Settings

IntArray = npt.NDArray[np.int64]


def held_out_summary(
    users: HeldOutUsers,
    settings: Settings,
    key: str,
    train_items: IntArray | None = None,
    *,
    best: bool = False,
) -> HeldOutSummary:
    """What is said of ``users``, those of the folder ``runner.<key>``.

    ``train_items`` [n] are the items of the train clicks, None where these are not known; ``best``
    says that the epoch is the one that did best on the valid users.
    """
    span = users.largest_item() + 1
    truths = _pairs(users.truth_indptr, users.truths, span)
    excluded = cold = None
    if settings.retrieval.exclude_history:
        history = _pairs(users.history_indptr, users.history, span)
        excluded = len(np.intersect1d(truths, history, assume_unique=True))
    if train_items is not None:
        cold = int((~np.isin(truths % span, train_items)).sum())
    return HeldOutSummary(
        split=split_words_beside(settings.path(key)),
        users=len(users),
        truths=len(truths),
        excluded_truths=excluded,
        cold_truths=cold,
        chose_epoch=best and tests_on_valid_users(settings),
    )


def _pairs(indptr: IntArray, items: IntArray, span: int) -> IntArray:
    """A number for each distinct pair of a user and one of its ``items``, ascending."""
    owner = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    return np.unique(owner * span + items)


def require_others_than_the_ranker_saw(settings: Settings) -> None:
    """SettingsError: the test users are the valid ones, whose later clicks taught the ranker."""
    if tests_on_valid_users(settings):
        raise SettingsError(
            f"{settings.path('test_data_dir')}: the ranker learned from these very users, and what "
            "is measured on them says nothing of others: name test users with "
            "-o runner.test_data_dir=DIR, or prepare the data with a test split"
        )


def tests_on_valid_users(settings: Settings) -> bool:
    """Whether test and valid users are the same ones, as in a folder without test/."""
    if settings.runner.valid_data_dir is None:
        return False
    test, valid = (settings.path(key).resolve() for key in ("test_data_dir", "valid_data_dir"))
    return test == valid
