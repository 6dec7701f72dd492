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
        """The export of the model and ranker ``key``: this one as it is now, or of a link all that
        lie beside the one that it points at.
        """
        if not key:
            return None
        folder, own = self.folder.resolve().parent, self.folder.resolve().name
        for name, manifest in exports_in(folder).items():
            is_ours = self.folder.is_symlink() or name == own
            if is_ours and key in (manifest.key, manifest.digest):
                return read_export(folder / name, self.options, self.folder)
        return None
