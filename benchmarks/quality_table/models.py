# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The rows that are trained: every folder of models/recall, with the options of models.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paddlerec_milvus.errors import SettingsError, nearest
from quality_table import fusion
from quality_table.baselines import METHODS

ROOT = Path(__file__).resolve().parents[2]
ZOO = ROOT / "models" / "recall"
FILE = ROOT / "benchmarks" / "models.yaml"
PEERS = {
    "mind_paddlerec": "MIND of PaddleRec",
    "sasrec_rectools": "SASRec of RecTools",
    "comirec_sa_remi": "ComiRec-SA of REMI's authors",
    "comirec_dr_remi": "ComiRec-DR of REMI's authors",
    "remi_remi": "REMI of its authors",
}
"""Other people's, by the names of their rows."""
COUNTERPARTS = {
    "mind": "mind_paddlerec",
    "sasrec": "sasrec_rectools",
    "comirec_sa": "comirec_sa_remi",
    "comirec_dr": "comirec_dr_remi",
    "remi": "remi_remi",
}
"""Of a row of ours: the public implementation of the same paper."""
OTHERS = {fusion.NAME: fusion.TITLE} | PEERS  # rows that are no baseline and no folder


class ModelRow(BaseModel):
    """A recipe that is trained; see models.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str = ""
    title: str = ""
    options: list[str] = []
    seeds: int = Field(default=1, ge=1)
    minutes: float | None = Field(default=None, gt=0)

    @property
    def yaml(self) -> Path:
        """Its settings before ``options``."""
        return ZOO / self.folder / "config.yaml"


class ModelRows(BaseModel):
    """The content of models.yaml, with a row for every folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recommended: str
    models: dict[str, ModelRow] = {}


def read_models(file: Path = FILE, zoo: Path = ZOO) -> ModelRows:
    """The rows of ``file``, and one for each folder of ``zoo`` that it does not name.

    SettingsError: a row of no folder, of a baseline's name, or a recommended model without a row.
    """
    try:
        content = ModelRows.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise SettingsError(f"{file}: no rows of models: {error}") from error
    folders = sorted(path.parent.name for path in zoo.glob("*/config.yaml"))
    rows: dict[str, ModelRow] = {}
    for name in [*folders, *(name for name in content.models if name not in folders)]:
        row = content.models.get(name, ModelRow())
        folder = row.folder or name
        if folder not in folders:
            hint = nearest(folder, folders)
            raise SettingsError(f"{file}: {name}: models/recall has no folder {folder}{hint}")
        if name in METHODS or name in OTHERS:
            raise SettingsError(f"{file}: {name}: is the name of another row already")
        title = row.title or _title_of(zoo / folder)
        rows[name] = row.model_copy(update={"folder": folder, "title": title})
    if content.recommended not in rows:
        hint = nearest(content.recommended, rows)
        raise SettingsError(f"{file}: recommended: {content.recommended}: no such row{hint}")
    return ModelRows(recommended=content.recommended, models=rows)


def _title_of(folder: Path) -> str:
    """The first heading of its README, else its name."""
    try:
        heading = (folder / "README.md").read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return folder.name
    return heading.lstrip("# ").strip() or folder.name


def order_of(names: Mapping[str, object]) -> list[str]:
    """``names`` in the order of the tables: baselines, their fusion, peers, then models."""
    first = [*METHODS, *OTHERS]
    known = [name for name in first if name in names]
    return known + [name for name in names if name not in first]


def code_of(yaml_file: Path) -> str:
    """SHA-256 of a model folder's sources and of the yaml."""
    digest = sha256()
    for file in [*sorted(yaml_file.parent.glob("*.py")), yaml_file]:
        digest.update(file.read_bytes())
    return digest.hexdigest()
