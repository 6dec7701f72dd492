# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a run needs to know, as frozen models; :mod:`paddlerec_milvus.config` reads them.

PaddleRec's sections ``runner``, ``hyper_parameters`` and ``workspace`` keep their meaning; this
project adds ``milvus``, ``index``, ``retrieval`` and ``ranking``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from paddlerec_milvus.errors import SettingsError

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
# some of upstream's yamls write 0 and 1
Switch = Annotated[bool, BeforeValidator(lambda value: bool(value) if value in (0, 1) else value)]


class Section(BaseModel):
    """A frozen part of the settings; a string is never taken for a number."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


class RunnerSettings(Section):
    """``runner``: where data and checkpoints are and how long to train, in PaddleRec's words."""

    # keys of upstream's readers and of its other trainers pass through to the model folder
    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    train_data_dir: str | None = None
    """Folder of the training log."""
    test_data_dir: str | None = None
    """Folder of the test users, or of a ranking model's test rows."""
    valid_data_dir: str | None = None
    """Folder of the valid users: measured after each epoch, and the best epoch is kept."""
    valid_top_n: Annotated[int, Field(ge=1, le=16_384)] = 50
    """Length of the lists by which the best epoch is found."""
    patience: Natural = 0
    """Epochs without a better valid recall that end a run; 0: off."""
    train_reader_path: str = "reader"
    """Module of the model folder that reads training samples."""
    infer_reader_path: str = "reader"
    """Module of the model folder that reads test samples."""
    train_batch_size: Count = 128
    """Samples of a training step, of all processes together."""
    infer_batch_size: Count = 128
    """Users (of a ranking model: rows) that go through the model at once."""
    num_workers: Natural = 0
    """Processes that read samples beside the training; 0: it reads by itself."""
    epochs: Count = 1
    """Epochs of a run."""
    batches_per_epoch: Natural = 0
    """Steps of an epoch; 0: all samples."""
    print_interval: Count = 10
    """Steps between two log lines."""
    model_save_path: str = "model_output"
    """Where each epoch's checkpoint goes."""
    model_init_path: str | None = None
    """A checkpoint whose parameters training starts from."""
    last_epoch: Annotated[int, Field(ge=-1)] = -1
    """Training goes on after this epoch; -1: it starts anew."""
    infer_load_path: str = "model_output"
    """Where the checkpoints that are evaluated or served lie."""
    infer_start_epoch: Natural = 0
    """The first epoch that is evaluated."""
    infer_end_epoch: Count = 1
    """Epochs are evaluated to before this one."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 12345
    """Of parameters, sample order and negatives."""
    use_gpu: Switch = False
    """Compute on a GPU."""
    use_xpu: Switch = False
    """Compute on a Kunlun XPU."""
    use_npu: Switch = False
    """Compute on an Ascend NPU."""
    use_amp: Switch = False
    """bfloat16 where it is safe; on a GPU only."""
    use_auc: Switch = False
    """PaddleRec's: evaluation starts its metrics anew in each epoch, as it always does here."""
    use_visual: Switch = False
    """Write VisualDL logs to ``visualDL_log/``."""
    use_fleet: Switch = False
    """The run is to be one of several processes: one that the launcher did not start is refused."""

    @model_validator(mode="after")
    def _some_epoch_to_infer(self) -> RunnerSettings:
        if self.infer_end_epoch <= self.infer_start_epoch:
            raise ValueError(
                f"infer_end_epoch: {self.infer_end_epoch} is exclusive and must be above "
                f"infer_start_epoch: {self.infer_start_epoch}"
            )
        return self

    @model_validator(mode="after")
    def _patience_has_a_measure(self) -> RunnerSettings:
        if self.patience and self.valid_data_dir is None:
            raise ValueError(
                f"patience: {self.patience} waits for a better recall on the valid users: set "
                "valid_data_dir, or patience: 0"
            )
        return self


def split_credentials(uri: str) -> tuple[str, str]:
    """A server's address as it may be shown, and the ``user:password`` or key that it held.

    pymilvus takes ``http://user:password@host``; this project names the address in errors, logs
    and reports, so there it never holds them: they are a token.
    """
    scheme, colon, rest = uri.partition("://")
    credentials, at, place = rest.rpartition("@")
    return (f"{scheme}{colon}{place}", credentials) if at and scheme != "unix" else (uri, "")


class MilvusSettings(Section):
    """``milvus``: where the vectors go. A file path is Milvus Lite, http(s)://… a server.

    A user and a password in ``uri`` become the ``token``, unless there is one.
    """

    uri: Annotated[str, Field(min_length=1)] = "milvus.db"
    """A file for Milvus Lite, or a server's address."""
    token: SecretStr = SecretStr("")
    """``user:password`` or an API key; better in the variable MILVUS_TOKEN."""
    db_name: str = ""
    """Database of the server; empty: its default."""
    timeout: Annotated[float, Field(gt=0, strict=False)] = 30.0
    """Seconds, for every call."""
    collection: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """By default the model folder's name and ``_items``."""
    consistency: Literal["Strong", "Bounded", "Session", "Eventually"] = "Bounded"
    """How fresh the items of a search are."""

    @model_validator(mode="before")
    @classmethod
    def _credentials_are_a_token(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("uri"), str):
            return values
        uri, credentials = split_credentials(values["uri"])
        token = values.get("token") or SecretStr("")
        return {**values, "uri": uri, "token": token if len(token) else SecretStr(credentials)}


class RetrievalSettings(Section):
    """``retrieval``: how vectors are compared and what a list may hold."""

    metric: Literal["IP", "COSINE", "L2"] = "IP"
    """IP: inner product; L2: distance."""
    exclude_history: bool = False
    """A list holds no item of the user's history."""


Quota = Annotated[int, Field(ge=0, le=16_000)]  # Milvus gives 16,384 at most, excluded ones too


class QuotaSettings(Section):
    """``ranking.quotas``: how many candidates each channel gives at most; 0: it gives none."""

    interests: Quota = 200
    """What the vector model finds."""
    transitions: Quota = 200
    """What was clicked soon after the user's last clicks."""
    neighbours: Quota = 200
    """What the users of the last clicks clicked."""
    popular: Quota = 50
    """The most clicked items."""
    rising: Quota = 50
    """Clicked more of late than before; of logs that were split by time alone."""
    new: Quota = 50
    """First clicked of late, by clicks; of logs that were split by time alone."""

    @model_validator(mode="after")
    def _some_channel(self) -> QuotaSettings:
        if not any(self.model_dump().values()):
            raise ValueError("interests: 0, as all others: nothing would be a candidate")
        return self


class RankingSettings(Section):
    """``ranking``: what a ranker is trained with; it keeps these, and serves with no others."""

    quotas: QuotaSettings = QuotaSettings()
    """Candidates of each channel."""


# runner keys that hold a path; in a yaml relative to its folder, in -o to the working directory
PATH_KEYS = (
    "train_data_dir",
    "test_data_dir",
    "valid_data_dir",
    "model_save_path",
    "model_init_path",
    "infer_load_path",
)


class Settings(BaseModel):
    """Everything a run needs to know."""

    model_config = ConfigDict(frozen=True)

    file: Path
    base: Path = Field(exclude=True)
    """The folder that relative paths of the yaml start from: see :mod:`paddlerec_milvus.bundle`."""
    runner: RunnerSettings
    hyper_parameters: Mapping[str, Any]  # dotted keys
    workspace: Mapping[str, Any]
    milvus: MilvusSettings
    index: Mapping[str, Any]  # type and its parameters, in Milvus' words
    retrieval: RetrievalSettings
    ranking: RankingSettings = RankingSettings()

    @property
    def model_dir(self) -> Path:
        """The model folder: where the yaml lies."""
        return self.file.parent

    def path(self, key: str) -> Path:
        """``runner.<key>`` as an absolute path; SettingsError when it is not set."""
        value: str | None = getattr(self.runner, key)
        if value is None:
            raise SettingsError(f"{self.file}: runner.{key} is missing and has no default")
        return Path(os.path.normpath(self.base / value))

    @property
    def milvus_uri(self) -> str:
        """The uri, with a file's path made absolute, and the folder of it made for a bundled yaml.

        SettingsError: that folder cannot be made.
        """
        uri = self.milvus.uri
        if "://" in uri or Path(uri).is_absolute():
            return uri
        try:
            self.base.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"milvus.uri: {uri}: {self.base} cannot be made: {error.strerror}; work in a "
                "folder that you may write to, or set milvus.uri"
            ) from error
        return str(self.base / uri)

    def dotted(self) -> dict[str, Any]:
        """The flat mapping that PaddleRec's model folders and readers expect."""
        flat: dict[str, Any] = {"config_abs_dir": str(self.base), "yaml_path": str(self.file)}
        flat |= {f"workspace.{key}": value for key, value in self.workspace.items()}
        runner = self.runner.model_dump(exclude_unset=True) | {"seed": self.runner.seed}
        flat |= {f"runner.{key}": value for key, value in runner.items()}
        flat |= {f"hyper_parameters.{key}": value for key, value in self.hyper_parameters.items()}
        return flat
