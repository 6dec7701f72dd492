# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Where models and sweeps are sought, and where what they write goes, as in a wheel."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support import ROOT

from paddlerec_milvus import bundle, config
from paddlerec_milvus.bench.sweep_config import find_sweep, read_sweep
from paddlerec_milvus.config import find_yaml, load_settings
from paddlerec_milvus.errors import SettingsError

SWEEPS = Path("benchmarks", "sweeps")


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of somebody who has installed a wheel."""
    bundled = tmp_path / "site-packages" / "paddlerec_milvus" / "bundled"
    for folder in (Path("models", "recall", "mind"), SWEEPS):
        left_out = shutil.ignore_patterns("output*", "__pycache__", "*.db")
        shutil.copytree(ROOT / folder, bundled / folder, ignore=left_out)
    monkeypatch.setattr(bundle, "BUNDLED", bundled)
    (tmp_path / "user").mkdir()
    monkeypatch.chdir(tmp_path / "user")
    return tmp_path / "user"


def test_a_bundled_model_reads_and_writes_in_the_working_directory(user: Path) -> None:
    settings = load_settings("mind/config.yaml")
    assert settings.model_dir == bundle.BUNDLED / "models" / "recall" / "mind"
    place = user / "models" / "recall" / "mind"
    assert settings.path("model_save_path") == place / "output_model_mind"
    assert settings.path("train_data_dir") == user / "datasets" / "sample" / "train"
    assert settings.dotted()["config_abs_dir"] == str(place)
    assert not place.exists()  # until something is written
    assert settings.milvus_uri == str(place / "milvus.db")
    assert place.is_dir()  # Milvus Lite makes no folder
    assert load_settings("mind/config.yaml", ["milvus.uri=x.db"]).milvus_uri == str(user / "x.db")


def test_it_stays_so_while_the_models_code_runs(
    user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings("mind/config.yaml")
    monkeypatch.chdir(settings.model_dir)  # as ModelFolder.active does
    assert settings.path("model_save_path").is_relative_to(user)


def test_where_nothing_can_be_written(user: Path) -> None:
    (user / "models").write_text("a file")
    with pytest.raises(SettingsError, match="a folder that you may write to"):
        load_settings("mind/config.yaml").milvus_uri  # noqa: B018


def test_an_own_model_wins_over_the_bundled_one(user: Path) -> None:
    own = user / "models" / "recall" / "mind"
    shutil.copytree(bundle.BUNDLED / "models" / "recall" / "mind", own)
    assert find_yaml("mind/config.yaml") == own / "config.yaml"
    own.rename(own.with_name("mine"))
    assert find_yaml("mine/config.yaml").parent == own.with_name("mine")
    assert load_settings("mine/config.yaml").base == own.with_name("mine")
    assert find_yaml("mind/config.yaml").is_relative_to(bundle.BUNDLED)
    with pytest.raises(SettingsError, match=r"models/recall/mind/config\.yaml.*mine/config\.yaml"):
        find_yaml("other/config.yaml")


def test_a_bundled_sweep_is_of_data_in_the_working_directory(user: Path) -> None:
    sweep = find_sweep("demo.yaml")
    assert sweep == bundle.BUNDLED / SWEEPS / "demo.yaml"
    checkpoint = read_sweep(sweep).data.checkpoint
    assert checkpoint is not None
    assert checkpoint.folder == str(user / "datasets" / "sample")
    with pytest.raises(SettingsError, match=r"did you mean 'demo.yaml'\?.*goodbooks_size.yaml"):
        find_sweep("demos.yaml")


def test_a_checkout_has_its_own_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "recall" / "mind").mkdir(parents=True)  # PaddleRec's, say
    (tmp_path / "models" / "recall" / "mind" / "config.yaml").touch()
    monkeypatch.chdir(tmp_path)
    mind = ROOT / "models" / "recall" / "mind"
    assert config.find_yaml("mind/config.yaml") == mind / "config.yaml"
    assert load_settings("mind/config.yaml").base == mind
    assert find_sweep("demo.yaml") == ROOT / SWEEPS / "demo.yaml"
