# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Exports of two days, made of one: the other has other vectors, another digest, other data."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from paddlerec_milvus.data.files import sha256_of
from paddlerec_milvus.export.exported_model import ExportedModel, read_export
from paddlerec_milvus.export.manifest import MANIFEST, VECTORS
from paddlerec_milvus.serving.settings import ServiceSettings, export_settings
from paddlerec_milvus.update.exports_folder import ExportsFolder
from paddlerec_milvus.update.gate import MARGINS
from paddlerec_milvus.update.model_steps import ModelPlan
from paddlerec_milvus.update.run_state import FinishedStep, RunState, UpdateRun, command_digest
from paddlerec_milvus.update.traffic import LIMITS
from paddlerec_milvus.update.updating import UpdatePlan

WIDE = {"recall@50": -1.0, "ndcg@10": -1.0}


def other_day(export: ExportedModel, out: Path, noise: float = 0.3) -> ExportedModel:
    """``export`` with ``noise`` in its items' vectors, of another log."""
    shutil.copytree(export.checkpoint, out)
    vectors = np.load(out / VECTORS)
    vectors += np.random.default_rng(1).normal(0, noise, vectors.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.save(out / VECTORS, vectors.astype(np.float32))
    manifest = export.manifest
    assert manifest.data is not None
    changed: dict[str, Any] = {
        "digest": sha256_of(out / VECTORS)[:16],
        "data": manifest.data.model_copy(update={"fingerprint": "0123456789abcdef"}),
        "files": {**manifest.files, VECTORS: sha256_of(out / VECTORS)},
    }
    (out / MANIFEST).write_text(manifest.model_copy(update=changed).model_dump_json())
    return read_export(out)


class Days:
    """The exports ``one`` and ``two`` in a folder with a link, and updates that are half done."""

    def __init__(self, place: Path, one: ExportedModel, two: ExportedModel, data: Path) -> None:
        self.place, self.data = place, data
        self.exports = ExportsFolder(place / "exports")
        for name, export in (("one", one), ("two", two)):
            shutil.copytree(export.checkpoint, self.exports.folder / name)
        self.exports.point("one")
        self.one, self.two = self.exports.export("one"), self.exports.export("two")

    def settings(self, *options: str, **others: Any) -> ServiceSettings:
        """Of a service on the link; its Milvus Lite lies beside."""
        usual = {"check_seconds": 0.1, "timeout": 10.0}
        words = [f"milvus.uri={self.place / 'milvus.db'}", *options]
        link = self.exports.folder / "current"
        return export_settings(link, words, **{**usual, **others})

    def plan(self, *services: str, **others: Any) -> UpdatePlan:
        """Of an update that has exported ``two`` and stands before the gate."""
        options = ("hyper_parameters.neg_samples=128",)
        model = ModelPlan("mind/config.yaml", options, self.data)
        usual: dict[str, Any] = {
            "margins": MARGINS | WIDE,
            "limits": LIMITS,
            "watch": 0.0,
            "keep": 3,
        }
        plan = UpdatePlan(model, self.exports.folder, services, **{**usual, **others})
        done = FinishedStep(ended="", seconds=0.0, result="")
        state = RunState(
            name="two",
            command=command_digest([*model.words(), str(plan.is_warm)]),
            before=self.exports.current,
            steps=dict.fromkeys(("train", "rank", "export"), done),
        )
        UpdateRun(self.exports, state).write()
        return plan

    def state(self) -> RunState:
        """Of the update, as it is on disk."""
        file = self.exports.folder / "runs" / "two" / "state.json"
        return RunState.model_validate_json(file.read_bytes())
