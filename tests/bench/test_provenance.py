# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rows name the machine and the engines that they come from."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import pytest

from paddlerec_milvus.evaluation import report
from paddlerec_milvus.evaluation.report import machine, versions


def test_the_processor_is_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel\t\t: 17\nmodel name\t: Some CPU @ 2.1 GHz: fast\n")
    monkeypatch.setattr(report, "CPU", file)
    assert machine()["processor"] == "Some CPU @ 2.1 GHz: fast"
    file.write_text("processor\t: 0\nCPU part\t: 0xd0c\n")  # as on ARM
    assert machine()["processor"] == (platform.processor() or platform.machine())
    file.unlink()
    assert machine()["processor"]


@pytest.mark.parametrize("package", ["faiss-cpu", "hdrhistogram", "hnswlib"])
def test_the_engines_versions_are_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "version", lambda name: f"1 of {name}")
    assert versions()[package] == f"1 of {package}"
    monkeypatch.undo()
    assert versions()["hdrhistogram"] == version("hdrhistogram")
