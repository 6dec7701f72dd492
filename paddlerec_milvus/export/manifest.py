# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The files of an export, and what its manifest says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from paddlerec_milvus.checkpoint_record import read_validated
from paddlerec_milvus.data.files import sha256_of
from paddlerec_milvus.data.fingerprint import DataIdentity
from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.ranking.files import WITHOUT

MANIFEST, YAML = "manifest.json", "config.yaml"
USERS, ITEMS_OF_FEATURES = "user_tower", "item_tower"  # .onnx; inference models in folders
VECTORS = "item_vectors.npy"
DATA = "data"  # what the service needs of the prepared folder

HISTORY, LENGTH = "hist_item", "seq_len"  # inputs of the user tower, in PaddleRec's words
ITEM, CODES = "item", "codes"  # inputs of the item tower


class Tensor(BaseModel):
    """An input or output of a tower."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    shape: list[int | str]
    """Names stand for what is not fixed: B users, n items."""
    dtype: str


class ExportManifest(BaseModel):
    """What an export holds, and what it was made of."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    format: Literal[1] = 1
    model: str
    """The model folder's name."""
    digest: str
    """16 hex digits of the SHA-256 of the checkpoint's parameters."""
    epoch: int | None
    data: DataIdentity | None
    """That the model was trained on."""
    maxlen: int
    """Clicks of a history that the user tower looks at."""
    inputs: list[Tensor]
    """Of the user tower."""
    output: Tensor
    """Of the user tower: K interests of each user."""
    items: int
    """It knows the items 1 … items."""
    difference: float
    """The largest from the checkpoint's vectors, over ``users`` users and some items."""
    users: int
    feature_codes: list[int]
    """How many codes each feature has by which it makes vectors of items; empty: it makes none."""
    ranker: str
    """Digest of the ranker beside it; empty: there is none."""
    versions: dict[str, str]
    """Of the packages that made it."""
    files: dict[str, str]
    """SHA-256 of all other files, by their path in the folder."""

    @property
    def key(self) -> str:
        """What tells this model with this ranker from all others."""
        return f"{self.digest}-{self.ranker or WITHOUT}"


def read_manifest(folder: Path) -> ExportManifest:
    """What ``folder/manifest.json`` says. CheckpointError: there is none, or it is damaged."""
    manifest = read_validated(folder / MANIFEST, ExportManifest, "export anew")
    if manifest is None:
        raise CheckpointError(
            f"{folder}: is no export (it has no {MANIFEST}): python tools/export.py -m "
            "mind/config.yaml --out DIR makes one"
        )
    return manifest


def sums_of(folder: Path) -> dict[str, str]:
    """SHA-256 of all files in ``folder`` but its manifest, by their path in it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    sums = {file.relative_to(folder).as_posix(): sha256_of(file) for file in files}
    return {name: digest for name, digest in sums.items() if name != MANIFEST}


def require_whole(folder: Path, manifest: ExportManifest) -> None:
    """CheckpointError names the first file of ``folder`` that is missing or not as it was made."""
    for name, digest in manifest.files.items():
        file = folder / name
        if not file.is_file():
            raise CheckpointError(f"{file}: is missing: copy the whole export, or export anew")
        if sha256_of(file) != digest:
            raise CheckpointError(
                f"{file}: is not the file that was exported (its sha256 is not the one in "
                f"{MANIFEST}): copy the whole export again, or export anew"
            )
