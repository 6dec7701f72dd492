# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The yamls that are shipped load, and something reads every key of them."""

from __future__ import annotations

import functools
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT

from paddlerec_milvus.config import load_settings, source_strings
from paddlerec_milvus.zoo import ModelFolder

SHIPPED = sorted((ROOT / "models").glob("*/*/config*.yaml"))


def flat_keys(values: dict[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for key, value in values.items():
        inner = flat_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        keys += inner or [f"{prefix}{key}"]
    return keys


@functools.cache
def read_by_the_package() -> tuple[set[str], set[str]]:
    """The settings that its code names as attributes, and its string constants."""
    package = ROOT / "paddlerec_milvus"
    code = "".join(file.read_text() for file in package.rglob("*.py"))
    folders = [package, *(path for path in package.rglob("*") if path.is_dir())]
    attributes = set(re.findall(r"\b(?:runner|milvus|retrieval|ranking)\.(\w+)", code))
    return attributes, set().union(*map(source_strings, folders))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: f"{file.parent.name}/{file.name}")
class TestShipped:
    def test_loads(self, file: Path) -> None:
        assert load_settings(file).file == file

    def test_every_key_is_read_by_something(self, file: Path) -> None:
        attributes, strings = read_by_the_package()
        in_folder = source_strings(file.parent)
        for key in flat_keys(yaml.safe_load(file.read_text())):
            section, name = key.split(".", 1)
            if section == "hyper_parameters":
                assert {key, name} & in_folder, f"{key} is read by nothing"
            elif key != "runner.infer_reader_path":  # for PaddleRec's own infer.py, by contract
                whole, _, _ = name.partition(".")  # the quotas are read together
                read = whole in attributes or {key, name} & (strings | in_folder)
                assert read, f"{key} is read by nothing"

    def test_every_hyper_parameter_of_the_model_is_written_out(self, file: Path) -> None:
        given = flat_keys(yaml.safe_load(file.read_text())["hyper_parameters"])
        folder = ModelFolder(file.parent)
        folder.dygraph_model()
        with folder.active():
            names = importlib.import_module("dygraph_model").DEFAULTS
        assert set(names) <= set(given)
