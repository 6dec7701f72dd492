# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Two exports of the small trained MIND, of two days, and a service on the link to one of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

sys.path.append(str(ROOT / "tests" / "serving"))

from export_of_a_day import Days, other_day
from running_service import Running, running

from paddlerec_milvus.command import settings_for
from paddlerec_milvus.export.exported_model import ExportedModel, read_export
from paddlerec_milvus.trained_model import TrainedModel


@pytest.fixture(scope="session")
def one(trained, tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    """The export of epoch 0."""
    pytest.importorskip("paddle2onnx")
    from paddlerec_milvus.export.exporting import export_model  # paddle

    out = tmp_path_factory.mktemp("exports") / "one"
    options = ["index.type=FLAT", "hyper_parameters.neg_samples=128"]
    settings = settings_for("mind/config.yaml", options, trained.data)
    export_model(TrainedModel(settings, trained.checkpoints / "0"), out)
    return read_export(out)


@pytest.fixture(scope="session")
def two(one: ExportedModel, tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    """Another model, of the log of another day."""
    return other_day(one, tmp_path_factory.mktemp("exports") / "two")


@pytest.fixture
def days(one: ExportedModel, two: ExportedModel, trained, tmp_path: Path) -> Days:
    """A folder with both exports, whose link points at the first one."""
    return Days(tmp_path, one, two, trained.data)


@pytest.fixture
def service(days: Days) -> Iterator[Running]:
    """A service on the link, which answers by the first one."""
    with running(days.settings()) as started:
        assert started.http.post("/insert").status_code == 200
        yield started
