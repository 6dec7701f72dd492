# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The files of a ranker beside its checkpoint, and what its manifest says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from paddlerec_milvus.checkpoint_record import read_validated
from paddlerec_milvus.errors import CheckpointError

FOLDER = "ranking"  # beside rec.pdparams
WITHOUT = "none"  # in place of a ranker's digest
MANIFEST, TABLES, TREES, DIN = "manifest.json", "channels.npz", "trees.onnx", "din.npz"

FIRST_QUOTAS = {"interests": 200, "transitions": 200, "neighbours": 200, "popular": 50}
"""Those of a manifest that names none, of before they were settings."""

RankerKind = Literal["trees", "din"]
RANKER_FILES: Mapping[RankerKind, str] = {"trees": TREES, "din": DIN}


class RankingManifest(BaseModel):
    """What a ranker was trained with; it serves nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    format: Literal[1] = 1
    ranker: RankerKind = "trees"
    """Boosted trees, or the network DIN."""
    model: str
    """16 hex digits of the SHA-256 of the vector model's parameters."""
    data: str
    """Fingerprint of the prepared data; empty: not known."""
    item_count: int
    categories: str = ""
    """16 hex digits of the categories' numbers by item, which DIN has learned; empty: not known."""
    channels: list[str]
    quotas: dict[str, Annotated[int, Field(ge=1)]] = FIRST_QUOTAS
    """The most candidates of each channel; served with no others."""
    features: list[str]
    """All, in the order of their columns."""
    used: list[str]
    """Those that the ranker uses."""
    start: float
    """What the interests' score weighs beside what the ranker learned."""
    seed: int
    lists: int
    """Lists that it was trained on."""
    files: dict[str, str]
    """SHA-256 of the files beside it."""

    @property
    def digest(self) -> str:
        """16 hex digits that tell this ranker from all others.

        What the first manifests had not counts only where it says something else than they did.
        """
        same = {"quotas"} if self.quotas == FIRST_QUOTAS else set()
        same |= set() if self.categories else {"categories"}
        return hashlib.sha256(self.model_dump_json(exclude=same).encode()).hexdigest()[:16]


def read_manifest(folder: Path) -> RankingManifest:
    """What ``folder/manifest.json`` says. CheckpointError: there is none, or it is damaged."""
    manifest = read_validated(folder / MANIFEST, RankingManifest, "train it anew")
    if manifest is None:
        raise CheckpointError(
            f"{folder}: no ranker was trained for this checkpoint: python tools/rank.py -m "
            "mind/config.yaml trains one"
        )
    return manifest


def categories_digest(categories: npt.NDArray[np.int64]) -> str:
    """16 hex digits of ``categories`` [V], a number for the category of each item."""
    return sha256(categories.astype("<i8").tobytes())[:16]


def checked_content(file: Path, manifest: RankingManifest) -> bytes:
    """The bytes of ``file``. CheckpointError: they are not those that were saved."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from None
    if sha256(content) != manifest.files.get(file.name):
        raise CheckpointError(
            f"{file}: is not the file that was saved (its sha256 is not the one in {MANIFEST} "
            "beside it): restore it, or train the ranker anew"
        )
    return content


def sha256(content: bytes) -> str:
    """In hex digits."""
    return hashlib.sha256(content).hexdigest()
