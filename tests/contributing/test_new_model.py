# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``tools/new_model.py``: a folder that trains at once and is green in check_model.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_folders import SMALL, checked, real_zoo, write_test_users
from support import ROOT, write_log

from paddlerec_milvus.config import load_settings
from paddlerec_milvus.contributing import new_cli
from paddlerec_milvus.contributing.checks import CHECKS
from paddlerec_milvus.contributing.new_model import new_model, zoo_to_extend
from paddlerec_milvus.errors import SettingsError


def test_it_is_green_at_once(tmp_path: Path) -> None:
    zoo = real_zoo(tmp_path)
    folder = new_model("my_model", zoo, zoo)
    settings = load_settings(folder / "config.yaml")
    assert settings.milvus.collection == "my_model_items"
    assert settings.runner.model_save_path == "output_model_my_model"
    assert all(path.exists() for path in folder.iterdir())  # no broken link
    own = {path.name for path in folder.iterdir() if not path.is_symlink()}
    yamls = {"config.yaml", "config_bigdata.yaml"}
    assert own == {"net.py", "dygraph_model.py", "README.md", *yamls}
    text = "".join((folder / name).read_text() for name in sorted(own))
    assert "youtube" not in text.lower()
    assert "MyModel" in text
    data = [f"runner.train_data_dir={write_log(tmp_path / 'train')}"]
    data += [f"runner.test_data_dir={write_test_users(tmp_path / 'test')}"]
    names = {check.name for check in CHECKS} - {
        "devices",
        "searches",
        "serves",
        "exports",
    }  # test_all_is_well
    results = checked(folder / "config.yaml", tmp_path / "place", *names, options=[*data, *SMALL])
    statuses = {name: result.status for name, result in results.items()}
    assert statuses.pop("upstream: README") == "not run"  # of which TODO is still to be written
    assert set(statuses.values()) == {"ok"}, results


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mind", "there is a model of that name; there are: mind, youtube_dnn"),
        ("MyModel", "expected lower-case letters"),
        ("my-model", "cannot be a model's name"),
        ("../up", "cannot be a model's name"),
        ("class", "cannot be a model's name"),
        ("7up", "cannot be a model's name"),
        ("numpy", "would shadow; choose another, such as numpy_model"),
        ("queue", "the name of a package"),
        ("negatives", "of a module of model folders"),
    ],
)
def test_names_that_cannot_be(name: str, message: str, tmp_path: Path) -> None:
    zoo = real_zoo(tmp_path)
    before = sorted(zoo.rglob("*"))
    with pytest.raises(SettingsError, match=message):
        new_model(name, zoo, zoo)
    assert sorted(zoo.rglob("*")) == before


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo = real_zoo(tmp_path)
    monkeypatch.setattr(new_cli, "zoo_to_extend", lambda: (zoo, zoo))
    assert new_cli.main(["my_model"]) == 0
    assert "tools/trainer.py -m my_model/config.yaml" in capsys.readouterr().out
    assert new_cli.main(["my_model"]) == 2
    assert "there is a model of that name" in capsys.readouterr().err


def test_a_checkout_extends_its_own_zoo() -> None:
    assert zoo_to_extend() == (ROOT / "models", ROOT / "models")


def test_from_another_zoo_files_are_copied(tmp_path: Path) -> None:
    origin = real_zoo(tmp_path / "wheel")
    folder = new_model("my_model", tmp_path / "models", origin)
    start = origin / "recall" / "youtube_dnn"
    assert not any(path.is_symlink() for path in folder.iterdir())
    assert {path.name for path in folder.iterdir()} == {path.name for path in start.iterdir()}
    assert (folder / "recall_model.py").read_bytes() == (start / "recall_model.py").read_bytes()
    with pytest.raises(SettingsError, match="there is a model of that name"):
        new_model("mind", tmp_path / "models", origin)
