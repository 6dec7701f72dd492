# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Where a service finds the model that an insert takes: training's checkpoints, or exports."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from paddlerec_milvus.command import settings_for
from paddlerec_milvus.export.exported_model import exports_in, read_export
from paddlerec_milvus.trained_model import TrainedModel, checkpoint_of


class ModelSource(NamedTuple):
    """Where a trained model is looked for, in the words of tools/infer.py."""

    yaml: str | Path
    options: tuple[str, ...] = ()
    data: Path | None = None
    epoch: str = ""

    def __repr__(self) -> str:
        """Without ``options``, which may hold a token."""
        return f"ModelSource({str(self.yaml)!r}, …)"

    def newest(self) -> TrainedModel:
        """The model as it is on disk now; CheckpointError: there is none."""
        settings = settings_for(self.yaml, self.options, self.data)
        folder = settings.path("infer_load_path")
        return TrainedModel(settings, checkpoint_of(folder, self.epoch, "SERVING_EPOCH: "))


class ExportSource(NamedTuple):
    """An export that serves, or a link to one among its earlier and later states."""

    folder: Path
    options: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Without ``options``, which may hold a token."""
        return f"ExportSource({str(self.folder)!r}, …)"

    def newest(self) -> TrainedModel:
        """The export as it is on disk now; CheckpointError: there is none."""
        return read_export(self.folder, self.options)

    def stored(self, key: str) -> TrainedModel | None:
        """The export of the model and ranker ``key`` beside the one that a link points at."""
        if not key or not self.folder.is_symlink():
            return None
        folder = self.folder.resolve().parent
        for name, manifest in exports_in(folder).items():
            if key in (manifest.key, manifest.digest):
                return read_export(folder / name, self.options, self.folder)
        return None
