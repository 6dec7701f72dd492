# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a service needs to know, read once from the model's yaml and the environment."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paddlerec_milvus.checkpoint import BEST, PREFIX
from paddlerec_milvus.command import settings_for
from paddlerec_milvus.config import Settings
from paddlerec_milvus.errors import CheckpointError, SettingsError, nearest
from paddlerec_milvus.retrieval.base import LARGEST_K
from paddlerec_milvus.serving.keys import Keys
from paddlerec_milvus.serving.model_registry import Found

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Source(NamedTuple):
    """Where a model is looked for, in the words of tools/infer.py."""

    yaml: str | Path
    options: tuple[str, ...] = ()
    data: Path | None = None
    epoch: str = ""

    def found(self) -> Found:
        """The model as it is on disk now."""
        settings = settings_for(self.yaml, self.options, self.data)
        checkpoint = checkpoint_of(settings.path("infer_load_path"), self.epoch)
        return Found(settings, checkpoint)


class ServiceSettings(BaseModel):
    """One service: a model, its checkpoint, who may call, and how much at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Source
    found: Found
    """The model at the start."""
    kept: Path | None = None
    """Where models that serve are kept; None: ``served`` in ``runner.infer_load_path``."""
    keys: Keys = Keys()
    timeout: Seconds = 2.0
    """Of a request's tower and search together, and of each call to Milvus except a build's."""
    least_history: Count = 1
    """Known clicks of a user whom the model is asked for; below that popular items are given."""
    least_recall: Annotated[float, Field(ge=0, le=1)] = 0.5
    """index_recall@50 on a sample of users that a new index must reach to serve."""
    insert_missing: bool = False
    """Insert at the start where Milvus holds no vectors of a model that is here."""
    threads: Count = 2
    """Searches under way at a time; requests that wait meanwhile are searched for together."""
    check_seconds: Seconds = 2.0
    """Between looks at Milvus."""
    max_users: Count = 1_024
    """In one request."""
    max_history: Count = 10_000
    """Ids of one user, and ids to exclude."""
    max_top_k: Annotated[int, Field(ge=1, le=LARGEST_K)] = 1_000
    max_body: Count = 4 << 20
    """Bytes of a request."""

    @property
    def model(self) -> Settings:
        """Settings of the model at the start."""
        return self.found.settings

    @property
    def kept_folder(self) -> Path:
        """Where models that serve are kept."""
        return self.kept or self.model.path("infer_load_path") / "served"

    def newest(self) -> Found:
        """The model as it is on disk now."""
        return self.source.found()


FIELDS = {
    f"SERVING_{name.upper()}": name
    for name in ServiceSettings.model_fields
    if name not in ("source", "found", "keys")
}
VARIABLES = (
    *("SERVING_YAML", "SERVING_OPTIONS", "SERVING_DATA", "SERVING_EPOCH", "SERVING_KEYS"),
    *FIELDS,
)


def service_settings(
    yaml: str | Path,
    options: Sequence[str] = (),
    data: Path | None = None,
    epoch: str = "",
    **others: Any,
) -> ServiceSettings:
    """The settings for ``yaml``, options and a prepared folder, all as tools/infer.py takes them.

    ``epoch`` is a number or ``best``; empty: the best, where there is none the last.
    ``others`` are fields of ServiceSettings. Raises SettingsError and CheckpointError.
    """
    source = Source(yaml, tuple(options), data, epoch)
    found = source.found()
    try:
        return ServiceSettings(source=source, found=found, **others)
    except ValidationError as error:
        names = {name: variable for variable, name in FIELDS.items()}
        wrong = [
            f"{names.get(str(each['loc'][0]), each['loc'][0])}: {each['input']!r}: {each['msg']}"
            for each in error.errors()
        ]
        raise SettingsError("; ".join(wrong)) from None


def checkpoint_of(folder: Path, epoch: str) -> Path:
    """``folder/<epoch>``; without an epoch the best, else the last. CheckpointError: none."""
    there = {file.parent.name: file.parent for file in folder.glob(f"*/{PREFIX}.pdparams")}
    numbers = sorted(int(name) for name in there if name.isdecimal())
    wanted = epoch or (BEST if BEST in there else str(numbers[-1]) if numbers else "")
    if wanted in there:
        return there[wanted]
    if not there:
        raise CheckpointError(
            f"{folder}: holds no checkpoint; train one: python -u tools/trainer.py -m "
            "mind/config.yaml"
        )
    raise CheckpointError(
        f"SERVING_EPOCH: {epoch!r} is no epoch of {folder}; it holds: {', '.join(sorted(there))}"
    )


def settings_from_environment(environment: Mapping[str, str] = os.environ) -> ServiceSettings:
    """The settings that the variables SERVING_… describe; SettingsError for an unknown one."""
    given = {key: value for key, value in environment.items() if key.startswith("SERVING_")}
    for key in given:
        if key not in VARIABLES:
            raise SettingsError(
                f"{key}: no such variable{nearest(key, VARIABLES)}; there are: "
                f"{', '.join(VARIABLES)}"
            )
    data = given.get("SERVING_DATA")
    return service_settings(
        given.get("SERVING_YAML", "mind/config.yaml"),
        shlex.split(given.get("SERVING_OPTIONS", "")),
        Path(data).resolve() if data else None,
        given.get("SERVING_EPOCH", ""),
        keys=Keys.parse(given.get("SERVING_KEYS", "")),
        **{name: given[variable] for variable, name in FIELDS.items() if variable in given},
    )
