# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What holds for every model folder: it trains, resumes, gives vectors, refuses bad settings."""

from __future__ import annotations

import importlib
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import yaml
from small_models import MODELS, ZOO, D, K, L, SmallModel, V, larger_items, some_users
from support import checkpoint_bits, write_log

from paddlerec_milvus.config import load_settings
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.training.trainer import train
from paddlerec_milvus.zoo import ModelFolder

SINGLE = {"youtube_dnn", "sasrec", "gru4rec", "gfcf"}  # one vector a user
WIDER = {"mind_unseen"}  # vectors of three parts, cosines alone


@pytest.fixture(params=MODELS)
def small(request: pytest.FixtureRequest) -> SmallModel:
    return SmallModel(request.param)


@pytest.fixture
def name(small: SmallModel) -> str:
    return small.folder.path.name


def modules_of(small: SmallModel) -> dict[str, Any]:
    """The tables of settings of a folder's dygraph_model.py."""
    with small.folder.active():
        return vars(importlib.import_module("dygraph_model"))


class TestVectors:
    def test_shapes_and_lengths(self, name: str) -> None:
        small = SmallModel(name, normalize=True)
        model = larger_items(small.build())
        vectors = small.user_vectors(model, *some_users())
        items = small.contract.item_vectors(model).numpy()
        width = 4 * D if name in WIDER else D
        assert vectors.shape == (5, 1 if name in SINGLE else K, width)
        assert items.shape == (V, width)
        assert (items[0] == 0).all()
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=2), 1, atol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(items[1:], axis=1), 1, atol=1e-4)

    def test_without_normalising(self, name: str) -> None:
        if name in WIDER:
            with pytest.raises(ValueError, match="normalize: True"):
                SmallModel(name, normalize=False).build()
            return
        small = SmallModel(name, normalize=False)
        model = larger_items(small.build())
        assert (small.contract.item_vectors(model) == model.item_emb.weight).all()
        lengths = np.linalg.norm(small.user_vectors(model, *some_users()), axis=2)
        assert np.isfinite(lengths).all()
        assert (abs(lengths - 1) > 0.01).any()

    def test_padding_and_company_change_nothing(self, small: SmallModel) -> None:
        model = larger_items(small.build())
        history, lengths = some_users()
        expected = small.user_vectors(model, history, lengths)
        garbage = np.where(np.arange(L) < lengths, history, 17)
        assert (garbage != history).any()
        assert (small.user_vectors(model, garbage, lengths) == expected).all()
        for user, (length,) in enumerate(lengths):
            row = slice(user, user + 1)
            alone = small.user_vectors(model, history[row, :length], lengths[row])
            np.testing.assert_allclose(alone[0], expected[user], atol=1e-5)

    def test_different_histories_differ(self, small: SmallModel) -> None:
        model = larger_items(small.build())
        vectors = small.user_vectors(model, *some_users())
        assert np.abs(vectors[:1] - vectors[1:]).max(axis=(1, 2)).min() > 1e-2


class TestTraining:
    def test_every_part_learns_and_items_sparsely(
        self, small: SmallModel, name: str, tmp_path: Path
    ) -> None:
        model = larger_items(small.build())
        batch = next(small.reader(write_log(tmp_path / "log")).iter_batches(32))
        small.loss(model, batch).backward()
        if name != "gfcf":  # whose items come in closed form
            assert model.item_emb.weight.grad.is_selected_rows()
        without = [n for n, p in model.named_parameters() if p.trainable and p.grad is None]
        assert without == []

    def test_dropout_is_of_training_alone(self, name: str, tmp_path: Path) -> None:
        batch = next(SmallModel(name).reader(write_log(tmp_path / "log")).iter_batches(32))
        drops = ["dropout", *(["transitions.dropout"] if name in WIDER else [])]
        for dropout, differ in ((0.0, False), (0.5, True)):
            hyper = dict.fromkeys(drops, dropout)
            small = SmallModel(name, sampler="all", **hyper)
            model = larger_items(small.build())
            first, second = (float(small.loss(model, batch)) for _ in range(2))
            assert (first != second) == differ
            vectors = [small.user_vectors(model, *some_users()) for _ in range(2)]
            assert (vectors[0] == vectors[1]).all()

    def test_trains_stops_and_resumes_to_the_same_bits(
        self, small: SmallModel, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        log = write_log(tmp_path / "log")

        def run(out: str, epochs: int, *, resume: bool = False) -> Path:
            options = [
                f"runner.train_data_dir={log}",
                f"runner.model_save_path={tmp_path / out}",
                f"runner.epochs={epochs}",
                "runner.train_batch_size=32",
                "runner.valid_data_dir=",
                "runner.patience=0",
                "hyper_parameters.optimizer.schedule=constant",
                "hyper_parameters.optimizer.learning_rate=0.01",
            ]
            paddle.seed(len(out))  # whatever happened before
            train(load_settings(small.yaml, [*small.options, *options]), resume=resume)
            return tmp_path / out

        caplog.set_level("INFO")
        whole = run("whole", 3)
        losses = [float(text) for text in re.findall(r"loss:(\d+\.\d+)", caplog.text)]
        if name not in {"gfcf", "mind_unseen"}:  # these start from the log
            assert losses[-1] < 0.8 * losses[0]
        parts = run("in_parts", 1)
        run("in_parts", 2, resume=True)
        assert checkpoint_bits(parts / "1") == checkpoint_bits(whole / "1")


class TestSettings:
    def test_every_key_of_the_yaml_is_the_models_or_its_readers(
        self, small: SmallModel, name: str
    ) -> None:
        tables = modules_of(small)
        given = {key.partition(".")[2] for key in small.config if key.startswith("hyper_")}
        of_reader = {"min_history", "next_n"} if "click_reader" in sources(name) else set()
        assert given == set(tables["DEFAULTS"]) | {"item_count"} | of_reader
        assert set(tables["LIMITS"]) <= set(tables["DEFAULTS"])

    def test_a_misspelt_key_is_refused(self, small: SmallModel) -> None:
        with pytest.raises(SettingsError, match=r"temprature.*temperature"):
            load_settings(small.yaml, ["hyper_parameters.temprature=1"])

    def test_a_key_of_another_model_is_refused(self, name: str) -> None:
        others = {"pow_p", "blocks", "attention_hidden", "map_init", "next_n"}
        own = yaml.safe_load((ZOO / name / "config.yaml").read_text())["hyper_parameters"]
        for key in sorted(others - set(own)):
            with pytest.raises(SettingsError, match=rf"unknown key 'hyper_parameters\.{key}'"):
                load_settings(ZOO / name / "config.yaml", [f"hyper_parameters.{key}=1"])

    def test_each_bad_value_is_named_with_its_key(self, small: SmallModel) -> None:
        tables = modules_of(small)
        for key in tables["DEFAULTS"]:
            self.refused(small, key, ["a list"], "expected ")
        for key, limit in tables["LIMITS"].items():
            value = "nonsense" if isinstance(limit, tuple) else -1
            words = "one of " if isinstance(limit, tuple) else limit
            self.refused(small, key, value, words)

    def refused(self, small: SmallModel, key: str, value: Any, words: str) -> None:
        config = small.config | {f"hyper_parameters.{key}": value}
        with pytest.raises(ValueError, match="hyper_parameters") as raised, small.folder.active():
            small.contract.create_model(config)
        assert f"hyper_parameters.{key}: {value!r}".replace("'", "") in str(raised.value).replace(
            "'", ""
        )
        assert words in str(raised.value)

    def test_more_negatives_than_items(self, small: SmallModel) -> None:
        config = small.config | {"hyper_parameters.neg_samples": V}
        with small.folder.active(), pytest.raises(ValueError, match=rf"neg_samples: {V} \(there"):
            small.contract.create_optimizer(small.build(), config)


def sources(name: str) -> set[str]:
    return {file.stem for file in (ZOO / name).glob("*.py")}


class TestFolder:
    def test_is_flat_and_whole(self, name: str, tmp_path: Path) -> None:
        names = {path.name for path in (ZOO / name).iterdir()}
        assert {"config.yaml", "config_bigdata.yaml", "README.md", "net.py"} <= names
        copy = shutil.copytree(
            ZOO / name, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("output*", "*.db*")
        )
        assert not any(path.is_symlink() for path in copy.iterdir())
        ModelFolder(copy).dygraph_model()
        for reader in ("train_reader_path", "infer_reader_path"):
            module = yaml.safe_load((copy / "config.yaml").read_text())["runner"][reader]
            assert (copy / f"{module}.py").is_file()

    def test_links_are_relative_and_lead_to_real_files(self, name: str) -> None:
        for link in (path for path in (ZOO / name).iterdir() if path.is_symlink()):
            assert not link.readlink().is_absolute()
            target = link.parent / link.readlink()
            assert target.is_file()
            assert not target.is_symlink()


def test_minds_folder_holds_no_links() -> None:
    assert not any(path.is_symlink() for path in (ZOO / "mind").iterdir())


def test_each_yaml_has_a_collection_of_its_own() -> None:
    files = [file for name in MODELS for file in (ZOO / name).glob("config*.yaml")]
    names = [load_settings(file).milvus.collection for file in files]
    assert len(set(names)) == len(names) >= 2 * len(MODELS)
