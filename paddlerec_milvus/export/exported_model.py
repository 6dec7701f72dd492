# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""An export in the place of a checkpoint: the same model, without PaddlePaddle."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from paddlerec_milvus.config import load_settings
from paddlerec_milvus.data.fingerprint import DataIdentity
from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.export.manifest import (
    DATA,
    MANIFEST,
    YAML,
    ExportManifest,
    read_manifest,
    require_whole,
)
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.trained_model import TrainedModel


class ExportedModel(TrainedModel):
    """A folder that tools/export.py wrote; ``checkpoint`` is that folder."""

    @property
    def manifest(self) -> ExportManifest:
        """What it holds. CheckpointError: it is none, or damaged."""
        return read_manifest(self.checkpoint)

    @property
    def name(self) -> str:
        """The model folder's name."""
        return self.manifest.model

    @property
    def epoch(self) -> int | None:
        """Of the checkpoint that was exported."""
        return self.manifest.epoch

    @property
    def data(self) -> Path | None:
        """What was exported of the prepared folder."""
        return self.checkpoint / DATA

    @property
    def has_log(self) -> bool:
        """Whether :meth:`data_identity` knows its data."""
        return self.manifest.data is not None

    def data_identity(self) -> DataIdentity | None:
        """The data that it was trained on, as the checkpoint said."""
        return self.manifest.data

    def require_fit(self) -> None:
        """CheckpointError: a file is missing, or not as it was exported."""
        require_whole(self.checkpoint, self.manifest)

    def fingerprint(self) -> str:
        """That of the checkpoint that was exported: the same vectors serve both."""
        return self.manifest.digest

    def copy_to(self, folder: Path) -> None:
        """Copy all of it to ``folder``, which exists."""
        for name in (MANIFEST, *self.manifest.files):
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.checkpoint / name, place)


def read_export(
    folder: Path, options: Sequence[str] = (), beside: Path | None = None
) -> ExportedModel:
    """The export in ``folder``, with KEY=VALUE ``options`` over its own settings.

    Of a link it is what that points at now. Nothing is written into it: files of its settings, such
    as a Milvus Lite, are in the folder beside it of the same name, or that of ``beside``, and
    ``_state``. UserError: it is none, or an option is not known.
    """
    place = folder.resolve()
    read_manifest(place)
    settings = load_settings(place / YAML, options)
    base = (beside or folder).with_name(f"{(beside or folder).name}_state")
    return ExportedModel(settings.model_copy(update={"base": base}), place)


def exports_in(folder: Path) -> dict[str, ExportManifest]:
    """What each whole export in ``folder`` says of itself, by its name."""
    manifests = {}
    for file in sorted(folder.glob(f"[!.]*/{MANIFEST}")):
        if not file.parent.is_symlink():
            with contextlib.suppress(CheckpointError):
                manifests[file.parent.name] = read_manifest(file.parent)
    return manifests


def model_at(settings: Settings, place: Path) -> TrainedModel:
    """The model in the folder ``place``, which is an export or a checkpoint."""
    is_export = (place / MANIFEST).exists()
    return (ExportedModel if is_export else TrainedModel)(settings, place)
