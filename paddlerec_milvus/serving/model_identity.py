# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Whose model it is: what a collection of item vectors in Milvus, and the service, say of it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from paddlerec_milvus.checkpoint import BEST, best_epoch
from paddlerec_milvus.checkpoint_record import data_of, read_record
from paddlerec_milvus.retrieval.indexes import index_of_settings, setting_name
from paddlerec_milvus.retrieval.ownership import CHECKPOINT
from paddlerec_milvus.serving.model_registry import TrainedModel


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
        """Model, epoch, data, index and digest, those that are known."""
        parts = [
            self.model,
            "" if self.epoch is None else f"epoch {self.epoch}",
            self.data and f"data '{self.data}' (fingerprint {self.data_fingerprint})",
            self.index,
            self.digest and f"digest {self.digest}",
        ]
        return ", ".join(filter(None, parts)) or "nobody knows whose"


def identity_of_model(trained: TrainedModel, digest: str) -> ModelIdentity:
    """Of the checkpoint ``trained``, with the data and the index of its settings.

    UserError: its record or its data cannot be read.
    """
    data = data_of(trained.settings, held_out=False)
    return ModelIdentity(
        model=trained.settings.model_dir.name,
        data="" if data is None else data.name,
        data_fingerprint="" if data is None else data.fingerprint,
        epoch=_epoch_of(trained),
        index=setting_name(index_of_settings(trained.settings).label),
        digest=digest,
    )


def _epoch_of(trained: TrainedModel) -> int | None:
    place = trained.checkpoint
    if (record := read_record(place)) is not None:
        return record.epoch
    if place.name == BEST:
        return best_epoch(place.parent)
    return int(place.name) if place.name.isdecimal() else None
