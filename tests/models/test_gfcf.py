# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""GF-CF: its tables against numpy's own singular values, its scores against the filter."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from small_models import Array, D, SmallModel, V, some_users

SMALL = SmallModel("gfcf")


def log_of(users: int = 90, seed: int = 1) -> tuple[Array, Array]:
    """Clicks of users with odd ids, some of them repeated; items 38 to 40 have none."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(users) * 7 + 3, 6)
    return who, rng.integers(1, 38, len(who))


def dense(users: Array, items: Array) -> Array:
    """The normalised matrix [users, V]."""
    clicked = np.zeros((users.max() + 1, V))
    clicked[users, items] = 1
    clicked = clicked[clicked.any(axis=1)]
    of_user, of_item = clicked.sum(axis=1), clicked.sum(axis=0)
    return np.asarray(clicked / np.sqrt(np.outer(of_user, np.maximum(of_item, 1))))


def test_products_and_singular_vectors() -> None:
    with SMALL.folder.active():
        spectrum = importlib.import_module("spectrum")
    users, items = log_of()
    log, matrix = spectrum.NormalisedLog(users, items, V), dense(users, items)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(V, 11)), rng.normal(size=(len(matrix), 11))
    np.testing.assert_allclose(log.times(x), matrix @ x, atol=1e-12)
    np.testing.assert_allclose(log.transposed_times(y), matrix.T @ y, atol=1e-12)
    vectors = spectrum.singular_vectors(log, D)
    exact = np.linalg.svd(matrix)[2][:D].T
    np.testing.assert_allclose(vectors @ vectors.T, exact @ exact.T, atol=1e-4)
    wide = spectrum.singular_vectors(log, 60)  # more than the matrix has
    assert wide.shape == (V, 60)
    assert (wide[:, V:] == 0).all()


def test_scores_are_the_filters() -> None:
    users, items = log_of()
    model = SMALL.build()
    model.fit(users, items)
    history, lengths = some_users()
    history = np.minimum(history, 37)
    found = SMALL.user_vectors(model, history, lengths)[:, 0] @ (
        SMALL.contract.item_vectors(model).numpy().T
    )
    vectors = np.linalg.svd(dense(users, items))[2][:D].T
    root = np.sqrt(np.bincount(np.unique(users * V + items) % V, minlength=V))
    for row, (length,), scores in zip(history, lengths, found, strict=True):
        clicks = row[:length]
        filtered = (vectors[clicks] / root[clicks, None]).sum(axis=0) @ (vectors * root[:, None]).T
        np.testing.assert_allclose(scores, filtered, atol=1e-4)


@pytest.mark.parametrize(("key", "value"), [("item_features", True), ("item_start", "clicks")])
def test_what_its_tables_have_no_place_for_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"hyper_parameters\.{key}: {value} \(.*GF-CF's tables"):
        SmallModel("gfcf", **{key: value}).build()
