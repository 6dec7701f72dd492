# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a service needs to know, read once from the model's yaml and the environment."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from limits import parse_many
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from paddlerec_milvus.errors import CheckpointError, SettingsError, nearest
from paddlerec_milvus.export.exported_model import model_at
from paddlerec_milvus.retrieval.base import LARGEST_K
from paddlerec_milvus.retrieval.redis_store import checked_address
from paddlerec_milvus.serving.auth import Keys
from paddlerec_milvus.serving.model_sources import ExportSource, ModelSource
from paddlerec_milvus.serving.schemas import SECONDS_PER_CANDIDATE
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.trained_model import TrainedModel

logger = logging.getLogger(__name__)

LEAST_SECRET = 16  # characters

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Access = Literal["open", "closed"]
Host = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
Hosts = Annotated[
    tuple[Host, ...],
    BeforeValidator(lambda value: _names_of(value) if isinstance(value, str) else value),
]


def _names_of(text: str) -> tuple[str, ...]:
    """``shop.example, candidates.svc.cluster.local``: names without scheme and port."""
    return tuple(name.strip().lower() for name in text.split(",") if name.strip())


class ServiceSettings(BaseModel):
    """One service: a model and its Milvus, who may call, and how much at once.

    ``ServiceSettings(model=load_settings("mind/config.yaml"))`` is enough for a service that is
    started with a retriever and an encoder; :func:`service_settings` finds a checkpoint, too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: Settings
    """Settings of the model, its index and its Milvus."""
    source: ModelSource | ExportSource | None = Field(default=None, exclude=True)
    """Where an insert looks for the model; None: there is no checkpoint."""
    checkpoint: Path | None = None
    """The folder of rec.pdparams at the start."""
    registry: Path | None = None
    """Where models that serve are stored; None: ``served`` in ``runner.infer_load_path``."""
    keys: Keys = Keys()
    open: bool = False
    """Without keys, on addresses that others can reach: start, and answer them the calls of the
    role read."""
    hosts: Hosts = ()
    """Names that callers know the service by; a call by another name is refused. Loopback's, and
    the probes by any, always pass. Empty: every name is taken."""
    metrics: Access = "open"
    """``closed``: /metrics needs a key of any role, and without keys answers this machine alone."""
    docs: Access = "open"
    """The same for /docs and /openapi.json."""
    histories: SecretStr = SecretStr("")
    """Where users' clicks are: empty for Milvus, which takes them from one process alone, or the
    address of a Redis or Valkey, for any number of processes."""
    history_days: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None
    """Days without a click, after which Redis forgets a user; None: never."""
    timeout: Seconds = 2.0
    """Seconds for a request's tower and search together, and for each call to Milvus except a
    build's."""
    large_timeout: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 300.0
    """Seconds, the most by which a request may last longer: 0.25 ms for each candidate, users x
    top_k. A request for more candidates than that allows is refused."""
    ranking_timeout: Seconds = 0.25
    """Seconds for the ranking of up to 16 users, as much again for each 16 more; after that lists
    are the model's own, unranked."""
    shown_log: Annotated[Path | None, BeforeValidator(lambda value: value or None)] = None
    """A folder where each list that answers a recommendation is logged, as JSON lines; None:
    nowhere."""
    shown_users: Literal["none", "hashed", "plain"] = "none"
    """Whose list a logged one is: ``none`` leaves that out, ``hashed`` writes a keyed hash of the
    id, ``plain`` the id."""
    shown_secret: SecretStr = SecretStr("")
    """The key of that hash, at least 16 characters."""
    shadow: Literal["off", "unranked", "ranked", "before"] = "off"
    """What is logged beside the list that answers: the vector model's own order (``unranked``); the
    ranker's, while the vector model's answers (``ranked``); or the list of the version that a
    rollback would go back to (``before``)."""
    least_history: Count = 1
    """Known clicks of a user whom the model is asked for; below that popular items are given."""
    least_recall: Annotated[float, Field(ge=0, le=1)] = 0.5
    """index_recall@50 on a sample of users that a new index must reach to serve; one that serves
    is warned of when it falls below."""
    recall_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 600.0
    """Seconds between two probes of the index_recall@50 of what serves, on 64 recent interests; 0:
    none. The first comes soon after the start, and after each insert."""
    insert_missing: bool = False
    """Insert at the start where Milvus holds no vectors of a model that is here, even if they were
    deleted. ``python -m paddlerec_milvus.serving`` does unless this is 0."""
    mismatch: Literal["refuse", "insert"] = "refuse"
    """At the start, where Milvus holds vectors of another model than this. ``insert``: put this
    one's in their place. ``refuse``: those of other data never serve (popular items are given until
    POST /insert), those of another epoch of the same data go on, and both is said."""
    threads: Count = 2
    """Searches under way at a time; requests that wait meanwhile are searched for together."""
    check_seconds: Seconds = 2.0
    """Seconds between looks at Milvus."""
    max_users: Count = 1_024
    """Users in one request."""
    max_history: Count = 10_000
    """Ids of one user, and ids to exclude."""
    max_top_k: Annotated[int, Field(ge=1, le=LARGEST_K)] = 1_000
    """Items of a list."""
    max_body: Count = 4 << 20
    """Bytes of a request."""
    receive_timeout: Seconds = 30.0
    """Seconds until a request has come; then its connection is closed."""
    max_connections: Count = 4_096
    """Connections at a time, of one process; fewer where it may have fewer files open."""
    rate: str = ""
    """How often a key, without one an address, may call: ``100/second;3000/minute``, in the words
    of the library ``limits``. Empty: as often as it likes. Each process counts for itself."""
    cors: str = ""
    """Origins of other sites whose pages may call, separated by commas; ``*``: of all."""

    @field_validator("rate")
    @classmethod
    def _known_rate(cls, rate: str) -> str:
        try:
            parse_many(rate) if rate else ()
        except ValueError:
            raise ValueError("write it as 100/second or 3000/minute, several joined by ;") from None
        return rate

    @field_validator("cors")
    @classmethod
    def _origins(cls, cors: str) -> str:
        for origin in cors.split(",") if cors not in ("", "*") else ():
            parts = urlsplit(origin.strip())
            if (
                parts.scheme not in ("http", "https")
                or origin.strip() != parts._replace(path="", query="", fragment="").geturl()
            ):
                raise ValueError(f"{origin.strip()!r} is no origin such as https://shop.example")
        return cors

    @model_validator(mode="after")
    def _can_log(self) -> ServiceSettings:
        if self.shadow != "off" and self.shown_log is None:
            raise ValueError("SERVING_SHADOW: is logged with what was shown: set SERVING_SHOWN_LOG")
        secret = self.shown_secret.get_secret_value()
        if self.shown_users == "hashed" and len(secret) < LEAST_SECRET:
            raise ValueError(
                f"SERVING_SHOWN_USERS=hashed: set SERVING_SHOWN_SECRET, {LEAST_SECRET} characters "
                "or more, the same in every process"
            )
        return self

    @property
    def max_candidates(self) -> int:
        """Users x top_k of one request."""
        return max(LARGEST_K, round(self.large_timeout / SECONDS_PER_CANDIDATE))

    def deadline(self, candidates: int) -> float:
        """Seconds in which a request for so many ``candidates``, users x top_k, is answered."""
        return self.timeout + min(SECONDS_PER_CANDIDATE * candidates, self.large_timeout)

    @property
    def registry_folder(self) -> Path:
        """Where models that serve are stored."""
        return self.registry or self.model.path("infer_load_path") / "served"

    @property
    def trained(self) -> TrainedModel:
        """The model at the start; CheckpointError: the settings name none."""
        if self.checkpoint is None:
            raise CheckpointError(
                "the settings name no checkpoint: make them with service_settings(), or give "
                "create_app() a retriever and an encoder"
            )
        return model_at(self.model, self.checkpoint)

    def newest(self) -> TrainedModel:
        """The model as it is on disk now."""
        return self.source.newest() if self.source else self.trained

    def stored(self, key: str) -> TrainedModel | None:
        """The model of ``key`` among the exports of a link; None: there is none."""
        return self.source.stored(key) if isinstance(self.source, ExportSource) else None


# pydantic-settings would take none of this over: it reads os.environ alone, lets unknown variables
# pass, and speaks of fields where we speak of variables
FIELDS = {
    "SERVING_KEPT" if name == "registry" else f"SERVING_{name.upper()}": name
    for name in ServiceSettings.model_fields
    if name not in ("model", "source", "checkpoint", "keys", "histories", "shown_secret")
}
VARIABLES = (
    *("SERVING_YAML", "SERVING_OPTIONS", "SERVING_DATA", "SERVING_EPOCH", "SERVING_EXPORT"),
    *("SERVING_KEYS", "SERVING_HISTORIES", "SERVING_SHOWN_SECRET"),
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
    return _of_source(ModelSource(yaml, tuple(options), data, epoch), others)


def export_settings(folder: Path, options: Sequence[str] = (), **others: Any) -> ServiceSettings:
    """The settings for the export in ``folder``; ``options`` KEY=VALUE are over its own.

    ``others`` are fields of ServiceSettings. Raises SettingsError and CheckpointError.
    """
    return _of_source(ExportSource(folder, tuple(options)), others)


def _of_source(source: ModelSource | ExportSource, others: Mapping[str, Any]) -> ServiceSettings:
    model, checkpoint = source.newest()
    try:
        return ServiceSettings(model=model, source=source, checkpoint=checkpoint, **others)
    except ValidationError as error:
        names = {name: variable for variable, name in FIELDS.items()}
        problems = [
            f"{names.get(str(one['loc'][0]), one['loc'][0])}: {one['input']!r}: {one['msg']}"
            if one["loc"]
            else one["msg"].removeprefix("Value error, ")  # its input may hold secrets
            for one in error.errors()
        ]
        raise SettingsError("; ".join(problems)) from None


def settings_from_environment(environment: Mapping[str, str] = os.environ) -> ServiceSettings:
    """The settings that the variables SERVING_… describe; SettingsError for an unknown one."""
    values = {key: value for key, value in environment.items() if key.startswith("SERVING_")}
    for key in values:
        if key not in VARIABLES:
            raise SettingsError(
                f"{key}: no such variable{nearest(key, VARIABLES)}; there are: "
                f"{', '.join(VARIABLES)}"
            )
    histories = values.get("SERVING_HISTORIES", "milvus")
    if histories == "milvus":
        histories = ""
    else:
        checked_address(histories)
    return _of_source(
        _source_of(values),
        {
            "keys": Keys.parse(values.get("SERVING_KEYS", "")),
            "histories": SecretStr(histories),
            "shown_secret": SecretStr(values.get("SERVING_SHOWN_SECRET", "")),
            **{name: values[variable] for variable, name in FIELDS.items() if variable in values},
        },
    )


def _source_of(values: Mapping[str, str]) -> ModelSource | ExportSource:
    """What the variables ``values`` name; SettingsError: an export and a model besides."""
    options = tuple(_options_of(values.get("SERVING_OPTIONS", "")))
    yaml, data = values.get("SERVING_YAML"), values.get("SERVING_DATA")
    epoch, export = values.get("SERVING_EPOCH", ""), values.get("SERVING_EXPORT")
    if not export:
        place = Path(data).resolve() if data else None
        return ModelSource(yaml or "mind/config.yaml", options, place, epoch)
    if yaml or data or epoch:
        raise SettingsError(
            f"SERVING_EXPORT={export}: holds a model, its data and its settings: leave out "
            "SERVING_YAML, SERVING_DATA and SERVING_EPOCH, or the export"
        )
    return ExportSource(Path(export).absolute(), options)  # a link may come to point elsewhere


def _options_of(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise SettingsError(
            f"SERVING_OPTIONS: {error}; it holds KEY=VALUE words, quoted as in a shell"
        ) from None


def without_secrets(error: Exception, settings: Settings) -> str:
    """The error's text without the token; a password in the uri is the token's."""
    token = settings.milvus.token.get_secret_value()
    return str(error).replace(token, "…") if token else str(error)
