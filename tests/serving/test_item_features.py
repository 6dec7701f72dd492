# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Items by their features, with a model that was trained with some."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from live_calls import untrained
from running_service import Running, running, settings_of

from paddlerec_milvus.data.features import read_features

NEW = 5_000


@pytest.fixture(scope="module")
def shop(trained, tmp_path_factory) -> Iterator[Running]:
    """A network with item features as it is before training."""
    folder = tmp_path_factory.mktemp("features")
    options = untrained(trained, folder, "hyper_parameters.item_features=True")
    with running(settings_of(trained, folder, *options)) as started:
        assert started.http.post("/insert").status_code == 200
        yield started


def put(service: Running, item: int, **features: str) -> np.ndarray:
    answer = service.http.post("/items", json={"items": [{"id": item, "features": features}]})
    assert answer.status_code == 200, answer.text
    (vector,) = service.service.current.retriever.vectors([item])
    return vector


def category_of(service: Running, item: int) -> str:
    found: str = service.service.model.catalogue.categories[item]
    return found


def test_an_item_of_the_model_with_its_own_features_keeps_its_vector(shop):
    (before,) = shop.service.current.retriever.vectors([7])
    np.testing.assert_allclose(put(shop, 7, category=category_of(shop, 7)), before, atol=1e-6)


def test_a_new_item_has_the_vector_of_its_features(shop, trained):
    """The embedding of its category at length 1, and so those of this category come nearest."""
    table = read_features(trained.data / "item_features.csv")
    vector = put(shop, NEW, category=category_of(shop, 7))
    encoder = shop.service.model.tower._encoder
    code = table.codes[6, table.columns.index("category")]
    weight = encoder.model.item_features.tables[table.columns.index("category")].weight
    own = weight.numpy()[code]
    np.testing.assert_allclose(vector, own / np.linalg.norm(own), atol=1e-6)
    found = shop.service.current.retriever.search([vector], 6, consistency="Strong").ids[0]
    assert found[0] == NEW
    assert {category_of(shop, item) for item in found[1:].tolist()} == {category_of(shop, 7)}


def test_another_category_moves_an_item_of_the_model(shop):
    other = next(i for i in range(1, 300) if category_of(shop, i) != category_of(shop, 9))
    (before,) = shop.service.current.retriever.vectors([9])
    vector = put(shop, 9, category=category_of(shop, other))
    assert np.abs(vector - before).max() > 0.01
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("item", "features", "message"),
    [
        (NEW, {"category": "nowhere seen"}, "item 5000 is new, and the model knows none"),
        (NEW, {"categroy": "a"}, "no such feature (did you mean 'category'?); there are: category"),
    ],
)
def test_features_that_say_nothing_are_refused(shop, item, features, message):
    answer = shop.http.post("/items", json={"items": [{"id": item, "features": features}]})
    assert answer.status_code == 422
    assert message in answer.json()["detail"][0]["msg"]


def test_vectors_and_features_in_one_call(shop):
    vector = shop.service.current.retriever.vectors([20])[0].tolist()
    items = [
        {"id": NEW + 1, "features": {"category": category_of(shop, 7)}},
        {"id": NEW + 2, "vector": vector},
        {"id": 30, "features": {"category": category_of(shop, 30)}},
    ]
    before = shop.service.current.retriever.vectors([30])
    answer = shop.http.post("/items", json={"items": items})
    assert answer.json()["upserted"] == 3
    found = shop.service.current.retriever.vectors([NEW + 2, 30])
    np.testing.assert_allclose(found, [vector, before[0]], atol=1e-6)


def test_values_are_those_that_the_model_knew(trained, tmp_path):
    """The data may be prepared anew, with other codes, before the next insert."""
    data = tmp_path / "data"
    shutil.copytree(trained.data, data)
    own = SimpleNamespace(data=data, checkpoints=trained.checkpoints)
    options = untrained(own, tmp_path, "hyper_parameters.item_features=True")
    with running(settings_of(own, tmp_path, *options)) as service:
        assert service.http.post("/insert").status_code == 200
        before = put(service, NEW, category=category_of(service, 7))
        (data / "item_feature_values.csv").write_text("column,value,code\n", encoding="utf-8")
        after = put(service, NEW, category=category_of(service, 7))
        np.testing.assert_array_equal(after, before)
