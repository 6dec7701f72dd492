# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A trained model on disk, and what a collection of its item vectors in Milvus says of it."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from paddlerec_milvus.checkpoint import BEST, PREFIX, best_epoch, settled
from paddlerec_milvus.checkpoint_record import (
    data_of,
    holds,
    read_record,
    require_fit,
    require_same_tower,
    require_unchanged,
)
from paddlerec_milvus.data.fingerprint import DataIdentity
from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.retrieval.indexes import index_of_settings, setting_name
from paddlerec_milvus.retrieval.ownership import CHECKPOINT
from paddlerec_milvus.settings import Settings

logger = logging.getLogger(__name__)

PARAMETERS = f"{PREFIX}.pdparams"


class TrainedModel(NamedTuple):
    """A trained model on disk: its settings and its checkpoint."""

    settings: Settings
    checkpoint: Path
    """The folder of rec.pdparams."""

    @property
    def data(self) -> Path | None:
        """The prepared folder: titles, categories, features."""
        if self.settings.runner.train_data_dir is None:
            return None
        return self.settings.path("train_data_dir").parent

    @property
    def name(self) -> str:
        """The model folder's name."""
        return self.settings.model_dir.name

    @property
    def epoch(self) -> int | None:
        """Of the checkpoint; None: it does not say."""
        return epoch_of(self.checkpoint)

    @property
    def has_log(self) -> bool:
        """Whether the click log of its settings is here, not what was copied beside it alone."""
        return self.data is not None and self.settings.path("train_data_dir").exists()

    def data_identity(self) -> DataIdentity | None:
        """The data of its settings; None: that is not here. UserError: it cannot be read."""
        return data_of(self.settings, held_out=False)

    def copy_to(self, folder: Path) -> None:
        """Copy what it is loaded from to ``folder``."""
        shutil.copyfile(self.checkpoint / PARAMETERS, folder / PARAMETERS)

    def require_fit(self) -> None:
        """CheckpointError: it was trained on other data than that of its settings or as another
        tower, is stale, or is not the file that training saved.
        """
        record = require_fit(self.checkpoint, self.data_identity())
        require_same_tower(self.checkpoint, record, self.settings)
        require_unchanged(self.checkpoint / PARAMETERS)

    def fingerprint(self) -> str:
        """Of the parameters; CheckpointError: there are none."""
        file = self.checkpoint / PARAMETERS
        try:
            return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from error

    def require_still(self, digest: str) -> None:
        """CheckpointError: its parameters are not those of ``digest`` any more."""
        if self.fingerprint() != digest:
            raise CheckpointError(f"{self.checkpoint}: was written while it was read: try again")


def checkpoint_of(folder: Path, epoch: str = "", option: str = "") -> Path:
    """``folder/<epoch>``; without an epoch the best, else the last. CheckpointError: none.

    ``option`` is what the error for an epoch that is not there calls it, ``SERVING_EPOCH: ``.
    """
    epochs = {file.parent.name: file.parent for file in folder.glob(f"*/{PREFIX}.pdparams")}
    numbers = sorted(int(name) for name in epochs if name.isdecimal())
    place = settled(folder / (epoch or BEST))
    if place in epochs.values():
        return place
    if not epoch and numbers:
        logger.info("%s holds no best epoch: the last one, %d, is taken", folder, numbers[-1])
        return folder / str(numbers[-1])
    if not epochs:
        raise CheckpointError(
            f"{folder}: holds no checkpoint; train one: python -u tools/trainer.py -m "
            f"mind/config.yaml ({holds(folder)})"
        )
    raise CheckpointError(
        f"{option}{epoch!r} is no epoch of {folder}; it holds: {', '.join(sorted(epochs))}"
    )


class ModelIdentity(BaseModel):
    """A model, the data that it is of, and the index of its vectors; empty: not known."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    model: str = ""
    """The model folder's name."""
    data: str = ""
    """The name of the prepared folder."""
    data_fingerprint: str = ""
    epoch: int | None = None
    index: str = ""
    """Type and build parameters of the index, in Milvus' words."""
    digest: str = ""
    """16 hex digits of the SHA-256 of the parameters."""
    ranker: str = ""
    """16 hex digits of the ranker that belongs to it; ``none``: it has none."""

    @property
    def key(self) -> str:
        """Digest and ranker, as far as they are known: what tells what it answers."""
        return "-".join(filter(None, (self.digest, self.ranker)))

    def answers_as(self, other: ModelIdentity) -> bool:
        """Whether both have one model and, as far as both name one, one ranker."""
        rankers = {self.ranker, other.ranker} - {""}
        return self.digest == other.digest and len(rankers) < 2

    def properties(self) -> dict[str, str]:
        """What is stored with a collection."""
        values = self.model_dump(exclude={"digest"}, exclude_none=True)
        return {CHECKPOINT: self.digest, **{key: str(value) for key, value in values.items()}}

    @classmethod
    def of_properties(cls, properties: Mapping[str, str]) -> ModelIdentity:
        """What a collection says of itself."""
        names = cls.model_fields.keys() - {"digest"}
        values = {name: properties[name] for name in names if properties.get(name)}
        return cls.model_validate({**values, "digest": properties.get(CHECKPOINT, "")})

    def __str__(self) -> str:
        """Model, epoch, data, index, digest and ranker, those that are known."""
        parts = [
            self.model,
            "" if self.epoch is None else f"epoch {self.epoch}",
            self.data and f"data '{self.data}' (fingerprint {self.data_fingerprint})",
            self.index,
            self.digest and f"digest {self.digest}",
            self.ranker and f"ranker {self.ranker}",
        ]
        return ", ".join(filter(None, parts)) or "nobody knows whose"


def identity_of_model(trained: TrainedModel, digest: str) -> ModelIdentity:
    """Of the checkpoint ``trained``, with the data and the index of its settings.

    UserError: its record or its data cannot be read.
    """
    data = trained.data_identity()
    return ModelIdentity(
        model=trained.name,
        data="" if data is None else data.name,
        data_fingerprint="" if data is None else data.fingerprint,
        epoch=trained.epoch,
        index=setting_name(index_of_settings(trained.settings).label),
        digest=digest,
    )


def epoch_of(place: Path) -> int | None:
    """The epoch of the checkpoint at ``place``; None: it does not say."""
    if (record := read_record(place)) is not None:
        return record.epoch
    if place.name == BEST:
        return best_epoch(place.parent)
    return int(place.name) if place.name.isdecimal() else None
