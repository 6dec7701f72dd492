# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a service needs to know, read once from the model's yaml and the environment."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paddlerec_milvus.checkpoint import BEST, PREFIX
from paddlerec_milvus.command import settings_for
from paddlerec_milvus.config import Settings
from paddlerec_milvus.errors import CheckpointError, SettingsError, nearest
from paddlerec_milvus.retrieval.base import LARGEST_K
from paddlerec_milvus.serving.keys import Keys

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ServiceSettings(BaseModel):
    """One service: a model, its checkpoint, who may call, and how much at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Settings
    checkpoint: Path
    """The folder of rec.pdparams."""
    data: Path | None = None
    """A prepared folder, for titles; None: the one that the yaml names."""
    keys: Keys = Keys()
    timeout: Seconds = 2.0
    """Of a request's tower and search together, and of each call to Milvus except a build's."""
    threads: Count = 8
    """Searches under way at a time."""
    check_seconds: Seconds = 2.0
    """Between looks at Milvus."""
    max_users: Count = 1_024
    """In one request."""
    max_history: Count = 10_000
    """Ids of one user, and ids to exclude."""
    max_top_k: Annotated[int, Field(ge=1, le=LARGEST_K)] = 1_000
    max_body: Count = 4 << 20
    """Bytes of a request."""


_NUMBERS = ("timeout", "threads", "check_seconds", "max_users", "max_history", "max_top_k")
NUMBERS = {f"SERVING_{name.upper()}": name for name in (*_NUMBERS, "max_body")}
VARIABLES = (
    *("SERVING_YAML", "SERVING_OPTIONS", "SERVING_DATA", "SERVING_EPOCH", "SERVING_KEYS"),
    *NUMBERS,
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
    model = settings_for(yaml, options, data)
    checkpoint = checkpoint_of(model.path("infer_load_path"), epoch)
    try:
        return ServiceSettings(model=model, checkpoint=checkpoint, data=data, **others)
    except ValidationError as error:
        names = {name: variable for variable, name in NUMBERS.items()}
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
        **{name: given[variable] for variable, name in NUMBERS.items() if variable in given},
    )
