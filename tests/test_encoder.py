# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A checkpoint as two functions: items to vectors, histories to interests."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from support import generic_folder, mind_folder, write_yaml

from paddlerec_milvus.config import load_settings
from paddlerec_milvus.encoder import Encoder
from paddlerec_milvus.errors import CheckpointError, ModelError
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.training.trainer import train
from paddlerec_milvus.zoo import ModelFolder

SINGLE_VECTOR = """
import paddle


class Net(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.item_emb = paddle.nn.Embedding(9, 2)


class DygraphModel:
    def create_model(self, config):
        return Net()

    def infer_forward(self, dy_model, metrics_list, batch_data, config):
        return dy_model.item_emb(batch_data[0]).sum(axis=1), None
"""


def mind_settings(folder: Path, **hyper: object) -> Settings:
    return load_settings(mind_folder(folder, dropout=0.4, **hyper), ["runner.epochs=1"])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return mind_settings(tmp_path / "model")


def encoder(settings: Settings) -> Encoder:
    return Encoder(settings, ModelFolder(settings.model_dir))


def test_it_serves_what_was_trained(settings: Settings) -> None:
    train(settings)
    folder = settings.path("model_save_path") / "0"
    table = paddle.load(str(folder / "rec.pdparams"))["item_emb.weight"].numpy()
    loaded, fresh = encoder(settings), encoder(settings)
    loaded.load(folder)
    vectors = loaded.item_vectors()
    assert (vectors.dtype, vectors.shape) == (np.float32, (41, 8))
    norms = np.linalg.norm(table[1:], axis=1, keepdims=True)
    np.testing.assert_allclose(vectors[1:], table[1:] / norms, atol=1e-4)
    assert (vectors[0] == 0).all()  # padding
    histories, lengths = np.array([[3, 4, 5, 0, 0], [11, 0, 0, 0, 0]]), np.array([3, 1])
    interests = loaded.interests(histories, lengths)
    assert (interests.dtype, interests.shape) == (np.float32, (2, 4, 8))
    assert (loaded.interests(histories, lengths) == interests).all()  # no dropout
    assert (fresh.interests(histories, lengths) != interests).any()
    # one user alone, and with other padding, has the same interests
    alone = loaded.interests(np.array([[3, 4, 5, 9, 9]]), np.array([3]))
    np.testing.assert_allclose(alone[0], interests[0], atol=1e-5)
    assert loaded.maxlen == 5


def test_a_click_pulls_its_own_item(settings: Settings) -> None:
    # identity map and one click: every interest points where that item does
    model = encoder(settings)
    interests = model.interests(np.array([[7, 0, 0, 0, 0]]), np.array([1]))[0]
    np.testing.assert_allclose(interests, np.tile(model.item_vectors()[7], (4, 1)), atol=1e-3)


def test_several_in_one_process(tmp_path: Path) -> None:
    small = encoder(mind_settings(tmp_path / "a"))
    large = encoder(mind_settings(tmp_path / "b", embedding_dim=16, hidden_size=16))
    assert small.item_vectors().shape == (41, 8)
    assert large.item_vectors().shape == (41, 16)
    assert small.interests(np.array([[1, 0, 0, 0, 0]]), np.array([1])).shape == (1, 4, 8)


def test_another_shape_is_refused(settings: Settings) -> None:
    train(settings)
    other = load_settings(settings.file, ["hyper_parameters.item_count=50"])
    with pytest.raises(CheckpointError, match=r"\[41, 8\] in the file, \[50, 8\] here"):
        encoder(other).load(settings.path("model_save_path") / "0")
    with pytest.raises(CheckpointError, match=r"no such checkpoint; .* holds: 0"):
        encoder(settings).load(settings.path("model_save_path") / "3")


def test_paddlerecs_checkpoint(tmp_path: Path) -> None:
    upstream = {"relu_layer": True, "normalize": False, "capsual.routing_init": "position"}
    model = encoder(mind_settings(tmp_path / "a", **upstream))
    state = {name: value.numpy() + 1 for name, value in model.model.state_dict().items()}
    (tmp_path / "0").mkdir()
    paddle.save({**state, "embedding_bias": paddle.zeros([41])}, str(tmp_path / "0/rec.pdparams"))
    model.load(tmp_path / "0")
    assert (model.item_vectors() == state["item_emb.weight"]).all()


def test_a_folder_with_one_vector_for_a_user(tmp_path: Path) -> None:
    (tmp_path / "dygraph_model.py").write_text(SINGLE_VECTOR)
    file = write_yaml(
        tmp_path / "config.yaml",
        {"runner": {"epochs": 1}, "hyper_parameters": {"maxlen": 2}},
    )
    model = encoder(load_settings(file))
    table = model.item_vectors()
    assert table.shape == (9, 2)
    interests = model.interests(np.array([[1, 2], [3, 4]]), np.array([2, 2]))
    assert interests.shape == (2, 1, 2)
    np.testing.assert_allclose(interests[:, 0], table[[1, 3]] + table[[2, 4]], rtol=1e-5)


def test_what_is_no_recall_model(tmp_path: Path) -> None:
    settings = load_settings(generic_folder(tmp_path / "model"))
    with pytest.raises(ModelError, match=r"hyper_parameters\.maxlen is needed"):
        encoder(settings)
    with pytest.raises(ModelError, match="not a recall model that can be searched"):
        encoder(load_settings(settings.file, ["hyper_parameters.maxlen=3"])).item_vectors()


def test_bad_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"hyper_parameters\.pow_p: -1"):
        encoder(mind_settings(tmp_path / "model", pow_p=-1.0))


@pytest.mark.parametrize("codes", [None, np.zeros((0, 2), np.int64)])
def test_users_features_that_a_service_does_not_know_are_warned_of(codes, capsys) -> None:
    encoder = object.__new__(Encoder)
    encoder.contract, encoder.config = SimpleNamespace(user_profiles=lambda *_: codes), {}
    encoder.warn_of_profiles("a service")
    said = capsys.readouterr().err
    assert ("with users' features, and a service knows clicks alone" in said) is (codes is not None)
