# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Each model folder once through trainer, evaluation, index benchmark, service and page.

All on Milvus Lite.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from page_view import viewing
from playwright.sync_api import Browser, expect
from running_service import running
from support import ROOT

from paddlerec_milvus.bench.cli import main as bench
from paddlerec_milvus.bench.results_file import read_rows
from paddlerec_milvus.evaluation.cli import main as infer
from paddlerec_milvus.serving.settings import service_settings
from paddlerec_milvus.training.cli import main as train

MODELS = sorted(file.parent.name for file in (ROOT / "models" / "recall").glob("*/config.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_trains_is_measured_and_serves(
    name: str, trained, tmp_path: Path, browser: Browser
) -> None:
    model = ["-m", f"{name}/config.yaml", "--data", str(trained.data)]
    options = ["hyper_parameters.neg_samples=128", "index.type=FLAT"]
    options += [f"milvus.uri={tmp_path / 'milvus.db'}"]
    epochs = ["runner.epochs=2", "runner.train_batch_size=64"]
    saved = f"runner.model_save_path={tmp_path / 'out'}"
    assert train([*model, "-o", saved, *epochs, *options]) == 0

    report = tmp_path / "report.json"
    loaded = [f"runner.infer_load_path={tmp_path / 'out'}", *options]
    arguments = ["-top_n", "20", "--best", "--report", str(report)]
    assert infer([*model, *arguments, "-o", *loaded]) == 0
    found = json.loads(report.read_text())
    assert found["index_recall@20"] == 1.0
    assert found["recall@20"] > 20 / 300  # a list by chance

    sweep = {
        "data": {
            "checkpoint": {
                "name": name,
                "model": f"{name}/config.yaml",
                "folder": str(trained.data),
                "options": [loaded[0], options[0]],
            }
        },
        "server": "lite",
        "k": 20,
        "indexes": [{"type": "FLAT"}],
        "measure": {"requests": 10, "warm_up": 2, "clients": [1], "seconds": 0.1, "batches": []},
        "floor": [],
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    out = tmp_path / "bench"
    assert bench(["-s", str(tmp_path / "sweep.yaml"), "--out", str(out)]) == 0
    (point,) = [row for row in read_rows(out) if row.kind == "point"]
    assert point.measured.quality.index_recall.list.mean == 1.0
    assert point.measured.quality.relevance.index.recall == pytest.approx(found["recall@20"])

    settings = service_settings(
        f"{name}/config.yaml", loaded, trained.data, registry=tmp_path / "kept"
    )
    with running(settings) as started:
        inserted = started.http.post("/insert").json()
        assert inserted["inserted"] == 300
        assert inserted["collection"] == f"{name}_items"
        answer = started.candidates([43, 23, 65], [275, 56], top_k=30)
        assert [len(set(row)) for row in answer["candidates"]] == [30, 30]
        with viewing(browser, started.url, address="/#picked=43,23,65&top_k=30") as view:
            view.shows(answer)
            expect(view["#model"]).to_contain_text(f"300 items of {name},")
