# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""YouTubeDNN: a user is the mean of the history, whatever its order."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import SmallModel, larger_items, some_users


def test_the_vector_is_the_direction_of_the_mean() -> None:
    small = SmallModel("youtube_dnn")
    model = larger_items(small.build())
    items = small.contract.item_vectors(model).numpy()
    history, lengths = some_users()
    means = [items[row[:n]].mean(axis=0) for row, (n,) in zip(history, lengths, strict=True)]
    expected = np.stack([mean / np.linalg.norm(mean) for mean in means])
    np.testing.assert_allclose(
        small.user_vectors(model, history, lengths)[:, 0], expected, atol=1e-5
    )


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_order_does_not_matter(layers: int) -> None:
    small = SmallModel("youtube_dnn", layers=layers)
    model = larger_items(small.build())
    assert sum("tower" in name and "weight" in name for name in model.state_dict()) == (
        layers + 1 if layers else 0
    )
    history, lengths = some_users()
    turned = np.stack(
        [np.append(h[:n][::-1], h[n:]) for h, (n,) in zip(history, lengths, strict=True)]
    )
    found = [small.user_vectors(model, clicks, lengths) for clicks in (history, turned)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
