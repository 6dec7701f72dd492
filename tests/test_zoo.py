# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Model folders with equal names live in one process, and leave no trace in it."""

from __future__ import annotations

import os
import queue
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import MIND

from paddlerec_milvus.errors import DataError, ModelError
from paddlerec_milvus.zoo import ModelFolder

MODEL = """
import net


class DygraphModel:
    def create_model(self, config):
        import lazy
        from parts import piece

        return net.NAME, lazy.NAME, piece.NAME
"""


def write_folder(folder: Path, model: str = MODEL, **files: str) -> ModelFolder:
    folder.mkdir()
    (folder / "dygraph_model.py").write_text(model)
    for name in ("net", "lazy"):
        (folder / f"{name}.py").write_text(f"NAME = '{name} of {folder.name}'\n")
    (folder / "parts").mkdir()
    (folder / "parts" / "__init__.py").write_text("")
    (folder / "parts" / "piece.py").write_text(f"NAME = 'piece of {folder.name}'\n")
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return ModelFolder(folder)


@pytest.fixture(autouse=True)
def _no_trace() -> Iterator[None]:
    modules, path, directory = dict(sys.modules), list(sys.path), Path.cwd()
    yield
    assert {n: sys.modules.get(n) for n in modules} == modules
    new = sys.modules.keys() - modules.keys()
    assert not new & {"net", "lazy", "parts", "parts.piece", "dygraph_model", "reader", "metrics"}
    assert sys.path == path
    assert Path.cwd() == directory


def names(folder: ModelFolder) -> tuple[str, str, str]:
    model = folder.dygraph_model()
    with folder.active():
        found: tuple[str, str, str] = model.create_model({})
        return found


def test_equal_names_in_one_process(tmp_path: Path) -> None:
    first, second = write_folder(tmp_path / "a"), write_folder(tmp_path / "b")
    models = first.dygraph_model(), second.dygraph_model()
    for _ in range(2):  # the lazily imported ones too, in any order
        for folder, model in zip((second, first), reversed(models), strict=True):
            with folder.active():
                name = folder.path.name
                expected = (f"net of {name}", f"lazy of {name}", f"piece of {name}")
                assert model.create_model({}) == expected


def test_a_module_is_loaded_once(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a")
    with folder.active():
        import lazy  # pyright: ignore[reportMissingImports]
    with folder.active():
        assert sys.modules["lazy"] is lazy


@pytest.mark.parametrize("name", ["queue", "metrics", "yaml", "colorsys"])
def test_a_module_named_like_an_installed_one(tmp_path: Path, name: str) -> None:
    model = f"import {name}\nimport net\n\n\nclass DygraphModel:\n    found = {name}.NAME\n"
    folder = write_folder(tmp_path / "a", model, **{name: "NAME = 'own'\n"})
    assert folder.dygraph_model().found == "own"  # type: ignore[attr-defined]
    assert not hasattr(sys.modules.get(name), "NAME")
    assert sys.modules["queue"] is queue
    with folder.active():
        assert sys.modules[name].NAME == "own"


def test_a_submodule_of_a_shadowed_package_comes_back(tmp_path: Path) -> None:
    before = {n: m for n, m in sys.modules.items() if n.split(".")[0] == "yaml"}
    assert len(before) > 1
    with write_folder(tmp_path / "a", yaml="NAME = 1\n").active():
        assert not before.keys() & sys.modules.keys()
        import yaml

        assert yaml.NAME == 1
    assert {n: sys.modules[n] for n in before} == before


def test_its_surroundings(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a")
    with folder.active():
        assert Path.cwd() == folder.path
        assert sys.path[0] == str(folder.path)


def test_everything_is_put_back_after_an_exception(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a", metrics="NAME = 1\n")

    def fail() -> None:
        with folder.active():
            import metrics  # noqa: F401

            sys.path.append("/somewhere")
            os.chdir("/")
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert "metrics" not in sys.modules  # and _no_trace looks at the rest


def test_active_inside_active(tmp_path: Path) -> None:
    first, second = write_folder(tmp_path / "a"), write_folder(tmp_path / "b")
    model = first.dygraph_model()
    with first.active():
        net = sys.modules["net"]
        with first.active():
            assert sys.modules["net"] is net
        assert sys.modules["net"] is net  # the inner end is not the outer one's
        assert names(second)[0] == "net of b"
        assert sys.modules["net"] is net
        assert model.create_model({})[1] == "lazy of a"
        assert Path.cwd() == first.path


def test_no_model_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no dygraph_model\.py"):
        ModelFolder(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import absent_package\n", "'dygraph_model' needs the package 'absent_package'"),
        ("import absent_package.part\n", "needs the package 'absent_package'"),
        ("from net import nothing\n", "'dygraph_model': cannot import name 'nothing'"),
        ("class DygraphModel\n", r"'dygraph_model': expected ':' \(dygraph_model\.py, line 1\)"),
        ("class Other: pass\n", "has no class DygraphModel"),
    ],
)
def test_a_model_that_cannot_be_loaded(tmp_path: Path, text: str, message: str) -> None:
    folder = write_folder(tmp_path / "a", text)
    with pytest.raises(ModelError, match=message) as raised:
        folder.dygraph_model()
    assert str(folder.path) in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "module 'reader' is not in it"),
        ("import absent_package\n", "'reader' needs the package 'absent_package'"),
        ("def f(:\n", r"'reader': .*line 1"),
        ("x = 1\n", r"reader\.py: has no class RecDataset"),
        ("def RecDataset(files, config):\n    raise ValueError('bad line')\n", "a: bad line"),
        ("def RecDataset(files, config):\n    open('vocabulary')\n", "No such file.*vocabulary"),
        ("def RecDataset(files, config):\n    import absent\n", "needs the package 'absent'"),
    ],
)
def test_a_reader_that_cannot_be_loaded(tmp_path: Path, text: str | None, message: str) -> None:
    folder = write_folder(tmp_path / "a", **({} if text is None else {"reader": text}))
    with pytest.raises(ModelError, match=message):
        folder.reader("reader", [], {})


def test_a_reader_gets_files_and_settings(tmp_path: Path) -> None:
    text = "def RecDataset(file_list, config):\n    return [file_list, config]\n"
    folder = write_folder(tmp_path / "a", reader=text)
    config = {"runner.seed": 1}
    assert folder.reader("reader", [tmp_path / "x"], config) == [[str(tmp_path / "x")], config]


def test_a_user_error_stays_what_it_is(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a")
    with pytest.raises(DataError, match="as it was"), folder.settings_errors():
        raise DataError("as it was")


def test_our_own_folder_leaves_no_trace() -> None:
    folder = ModelFolder(MIND)
    assert type(folder.dygraph_model()).__name__ == "DygraphModel"
    assert not {"net", "dygraph_model", "mind_reader"} & sys.modules.keys()
