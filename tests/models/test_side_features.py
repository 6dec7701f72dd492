# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Side features of items and users: what they add, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from small_mind import CONTRACT, FOLDER, Array, D, build, interests, settings, some_users

from paddlerec_milvus.checkpoint import load_parameters

ITEMS = 29
CODES = np.stack([np.arange(1, ITEMS + 1) % 4, np.arange(1, ITEMS + 1) % 3], axis=1)


def write_items(folder: Path, codes: Array = CODES, ids: Any = None) -> Path:
    ids = range(1, len(codes) + 1) if ids is None else ids
    lines = [f"{item},{a},{b}\n" for item, (a, b) in zip(ids, codes, strict=True)]
    (folder / "item_features.csv").write_text("item,category,brand\n" + "".join(lines))
    return folder


def write_users(folder: Path, text: str = "user,age,town\n9,2,1\n7,1,0\n") -> Path:
    (folder / "user_features.csv").write_text(text)
    return folder


def np_item_vectors(model: Any) -> Array:
    """The mean of an item's own embedding and of those features that are known, at length 1."""
    own = model.item_emb.weight.numpy().astype("float64")
    tables = [table.weight.numpy() for table in model.item_features.tables]
    vectors = [np.zeros(D)]
    for item in range(1, ITEMS + 1):
        codes = zip(tables, CODES[item - 1], strict=True)
        parts = [own[item], *(table[code] for table, code in codes if code > 0)]
        mean = np.mean(parts, axis=0)
        vectors.append(mean / np.linalg.norm(mean) if model.normalize else mean)
    return np.stack(vectors)


class TestItemFeatures:
    @pytest.mark.parametrize("normalize", [True, False])
    def test_the_vector_is_the_mean_of_what_is_known(self, tmp_path: Path, normalize: bool) -> None:
        model = build(write_items(tmp_path), item_features=True, normalize=normalize)
        expected = np_item_vectors(model)
        found = CONTRACT.item_vectors(model).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)
        some = paddle.to_tensor([[3, 0], [17, 29]])
        np.testing.assert_allclose(model.items(some).numpy(), expected[some.numpy()], atol=1e-5)

    def test_all_unknown_is_as_without(self, tmp_path: Path) -> None:
        model = build(write_items(tmp_path, CODES * 0), item_features=True)
        plain = build()
        plain.set_state_dict({n: v for n, v in model.state_dict().items() if "features" not in n})
        users = some_users()
        np.testing.assert_allclose(interests(model, *users), interests(plain, *users), atol=1e-6)
        np.testing.assert_allclose(
            CONTRACT.item_vectors(model).numpy(), CONTRACT.item_vectors(plain).numpy(), atol=1e-6
        )

    def test_they_learn_and_unknown_does_not(self, tmp_path: Path) -> None:
        model = build(write_items(tmp_path), item_features=True)
        config = settings(tmp_path, item_features=True)
        optimizer = CONTRACT.create_optimizer(model, config)
        tables = [table.weight for table in model.item_features.tables]
        before = [table.numpy().copy() for table in tables]
        history, lengths = some_users()
        model.train()
        batch = [history, np.full((5, 1), 3), lengths]
        CONTRACT.train_forward(model, [], batch, config)[0].backward()
        assert all(table.grad.is_selected_rows() for table in tables)
        optimizer.step()
        for old, table in zip(before, tables, strict=True):
            assert (old != table.numpy()).any(axis=1)[1:].all()
        for table in model.item_features.tables:
            assert (table(paddle.zeros([1], dtype="int64")).numpy() == 0).all()

    def test_a_checkpoint_keeps_them(self, tmp_path: Path) -> None:
        model = build(write_items(tmp_path), item_features=True)
        (tmp_path / "0").mkdir()
        paddle.save(model.state_dict(), str(tmp_path / "0" / "rec.pdparams"))
        other = build(tmp_path, item_features=True)
        for table in (other.item_emb, *other.item_features.tables):
            table.weight.set_value(paddle.zeros_like(table.weight))
        load_parameters(tmp_path / "0", other, CONTRACT.adapt_state_dict)
        expected = CONTRACT.item_vectors(model).numpy()
        assert (CONTRACT.item_vectors(other).numpy() == expected).all()

    @pytest.mark.parametrize(
        ("codes", "ids", "message"),
        [
            (CODES[:-2], None, r"item_count: 30 has items 1 to 29; missing: 28, 29"),
            (CODES[1:], range(2, 30), "missing: 1"),
            (np.ones((30, 2), int), range(30), "30 items, 0 to 29,"),
            (np.tile(CODES, (2, 1)), None, "58 items, 1 to 58, .*item_count: 30"),
            (CODES - 1, None, "all from 0"),
        ],
    )
    def test_a_table_of_other_items(
        self, tmp_path: Path, codes: Array, ids: Any, message: str
    ) -> None:
        write_items(tmp_path, codes, ids)
        with pytest.raises(ValueError, match=rf"item_features\.csv: .*{message}"):
            build(tmp_path, item_features=True)


@pytest.mark.parametrize("kind", ["item", "user"])
class TestBadTables:
    def test_no_file(self, tmp_path: Path, kind: str) -> None:
        message = rf"hyper_parameters\.{kind}_features: True.*no .*{kind}_features\.csv"
        with pytest.raises(ValueError, match=message) as raised:
            build(tmp_path, **{f"{kind}_features": True})
        assert f"--{kind}-features" in str(raised.value)
        build(tmp_path)  # which asks for none

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("id,age\n1,old\n", "a header and rows of integers"),
            ("id,age\n1,2\n2\n", "a header and rows of integers"),
            ("id\n1\n2\n", "at least one code"),
            ("id,age\n1,-2\n", "all from 0"),
        ],
    )
    def test_bad_lines(self, tmp_path: Path, kind: str, text: str, message: str) -> None:
        (tmp_path / f"{kind}_features.csv").write_text(text)
        with pytest.raises(ValueError, match=rf"{kind}_features\.csv: expected .*{message}"):
            build(tmp_path, **{f"{kind}_features": True})


class TestUserProfiles:
    def profiles(self, folder: Path, users: list[int]) -> Array:
        contract: Any = FOLDER.dygraph_model()
        with FOLDER.active():
            found = contract.user_profiles(np.array(users), settings(folder, user_features=True))
        return np.asarray(found)

    def test_codes(self, tmp_path: Path) -> None:
        write_users(tmp_path)
        codes = self.profiles(tmp_path, [7, 1, 9, 8, 100, 7])
        assert codes.tolist() == [[1, 0], [0, 0], [2, 1], [0, 0], [0, 0], [1, 0]]
        assert CONTRACT.user_profiles(np.array([7]), settings(tmp_path)) is None

    def test_they_change_interests_and_an_unknown_user_has_none(self, tmp_path: Path) -> None:
        model = build(write_users(tmp_path), user_features=True)
        history, lengths = (np.repeat(x[:1], 3, axis=0) for x in some_users())
        plain = interests(model, history, lengths)
        found = interests(model, history, lengths, self.profiles(tmp_path, [7, 9, 8]))
        assert np.abs(found[0] - plain[0]).max() > 1e-3
        assert np.abs(found[1] - found[0]).max() > 1e-3
        np.testing.assert_allclose(found[2], plain[2], atol=1e-6)

    @pytest.mark.parametrize("relu_layer", [True, False])
    def test_they_join_by_their_mean_before_the_relu_layer(
        self, tmp_path: Path, relu_layer: bool
    ) -> None:
        hyper = {"normalize": False, "user_features": True, "relu_layer": relu_layer}
        model = build(write_users(tmp_path), **hyper)
        history, lengths = some_users(users=2)
        layer = model.capsual_layer.relu_layer
        model.capsual_layer.relu_layer = None
        alone = interests(model, history, lengths)
        model.capsual_layer.relu_layer = layer
        found = interests(model, history, lengths, self.profiles(tmp_path, [9, 7]))
        age, town = (table.weight.numpy() for table in model.profile.tables)
        mean = np.stack([(age[2] + town[1]) / 2, age[1]])  # the town of 7 is unknown
        expected = alone + (mean @ model.profile_layer.weight.numpy())[:, None]
        if relu_layer:
            expected = np.maximum(expected @ layer.weight.numpy() + layer.bias.numpy(), 0)
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_both_forward_passes_take_them(self, tmp_path: Path) -> None:
        model = build(write_users(tmp_path), user_features=True)
        config = settings(tmp_path, user_features=True)
        history, lengths = some_users()
        codes = self.profiles(tmp_path, [9, 7, 8, 9, 9])
        model.train()
        batch = [history, np.full((5, 1), 3), lengths, codes]
        CONTRACT.train_forward(model, [], batch, config)[0].backward()
        assert all(p.grad is not None for p in model.profile.parameters())
        assert model.profile_layer.weight.grad is not None
        given = [history, lengths, np.zeros((5, 1, 1), "int64"), codes]
        vectors, _ = CONTRACT.infer_forward(model, None, given, config)
        assert (vectors.numpy() == interests(model, history, lengths, codes)).all()
