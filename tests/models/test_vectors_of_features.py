# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""MIND's vectors of items that are given by the codes of their features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_mind import CONTRACT, D, build
from test_side_features import CODES, ITEMS, write_items


@pytest.mark.parametrize("normalize", [True, False])
def test_an_item_of_the_table_with_its_own_codes_has_its_own_vector(
    tmp_path: Path, normalize: bool
) -> None:
    model = build(write_items(tmp_path), item_features=True, normalize=normalize)
    ids = np.arange(1, ITEMS + 1)
    found = CONTRACT.vectors_of_features(model, ids, CODES).numpy()
    np.testing.assert_allclose(found, CONTRACT.item_vectors(model).numpy()[1:], atol=1e-6)


def test_a_new_item_has_the_mean_of_the_features_that_are_known(tmp_path: Path) -> None:
    model = build(write_items(tmp_path), item_features=True, normalize=False)
    first, second = (table.weight.numpy() for table in model.item_features.tables)
    ids = np.array([ITEMS + 1, 2**62, 0])
    found = CONTRACT.vectors_of_features(model, ids, np.array([[3, 2], [0, 1], [1, 0]])).numpy()
    expected = [(first[3] + second[2]) / 2, second[1], first[1]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_has_no_vector_is_told(tmp_path: Path) -> None:
    model = build(write_items(tmp_path), item_features=True)
    new = np.array([ITEMS + 1])
    with pytest.raises(ValueError, match=f"item {ITEMS + 1} is new"):
        CONTRACT.vectors_of_features(model, new, np.array([[0, 0]]))
    for codes in ([[4, 1]], [[1, -1]], [[1]], [[1, 1, 1]]):
        with pytest.raises(ValueError, match=r"must be below \[4, 3\]"):
            CONTRACT.vectors_of_features(model, new, np.array(codes))
    known = CONTRACT.vectors_of_features(model, np.array([2]), np.array([[0, 0]])).numpy()
    assert known.shape == (1, D)


def test_a_model_without_item_features_makes_none() -> None:
    assert CONTRACT.vectors_of_features(build(), np.array([1]), np.array([[1, 1]])) is None
