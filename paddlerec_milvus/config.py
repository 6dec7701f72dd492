# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Settings: a model's yaml, ``-o`` overrides and the environment, read once and checked.

PaddleRec's sections ``runner``, ``hyper_parameters`` and ``workspace`` keep their meaning; this
project adds ``milvus``, ``index`` and ``retrieval``. A yaml that has one of the added sections is
checked strictly: a key that nothing reads is an error. In upstream's own yamls such keys are one
warning; in ``-o`` such a key is an error always.
"""

from __future__ import annotations

import ast
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from paddlerec_milvus.errors import SettingsError, nearest

logger = logging.getLogger(__name__)

UPSTREAM_SECTIONS = ("workspace", "runner", "hyper_parameters")
OWN_SECTIONS = ("milvus", "index", "retrieval")
OTHER_SECTIONS = ("table_parameters",)  # of upstream's parameter server


class _Loader(yaml.SafeLoader):
    """Safe, and ``1e-3`` is a number (yaml 1.1 wants a dot and takes it for a string)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
# some of upstream's yamls write 0 and 1
Switch = Annotated[bool, BeforeValidator(lambda given: bool(given) if given in (0, 1) else given)]


class Section(BaseModel):
    """A frozen part of the settings; a string is never taken for a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RunnerSettings(Section):
    """``runner``: where data and checkpoints are and how long to train, in PaddleRec's words."""

    # keys of upstream's readers and of its other trainers pass through to the model folder
    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    train_data_dir: str | None = None
    test_data_dir: str | None = None
    valid_data_dir: str | None = None  # measured after each epoch; the best epoch is kept
    valid_top_n: Annotated[int, Field(ge=1, le=16_384)] = 50
    patience: Natural = 0  # epochs without a better valid recall that end a run; 0: off
    train_reader_path: str = "reader"
    infer_reader_path: str = "reader"
    train_batch_size: Count = 128
    infer_batch_size: Count = 128
    num_workers: Natural = 0
    epochs: Count = 1
    batches_per_epoch: Natural = 0  # 0: all samples
    print_interval: Count = 10  # batches
    model_save_path: str = "model_output"
    model_init_path: str | None = None
    last_epoch: Annotated[int, Field(ge=-1)] = -1  # go on after this one
    infer_load_path: str = "model_output"
    infer_start_epoch: Natural = 0
    infer_end_epoch: Count = 1  # exclusive
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 12345
    use_gpu: Switch = False
    use_xpu: Switch = False
    use_npu: Switch = False
    use_amp: Switch = False  # bfloat16 where it is safe; on a GPU only
    use_auc: Switch = False
    use_visual: Switch = False
    use_fleet: Switch = False

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


class MilvusSettings(Section):
    """``milvus``: where the vectors go. A file path is Milvus Lite, http(s)://… a server."""

    uri: Annotated[str, Field(min_length=1)] = "milvus.db"
    token: SecretStr = SecretStr("")
    db_name: str = ""
    timeout: Annotated[float, Field(gt=0, strict=False)] = 30.0  # seconds, for every call
    collection: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "mind_items"
    consistency: Literal["Strong", "Bounded", "Session", "Eventually"] = "Bounded"


class RetrievalSettings(Section):
    """``retrieval``: how vectors are compared and what a list may hold."""

    metric: Literal["IP", "COSINE", "L2"] = "IP"
    exclude_history: bool = False


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
    runner: RunnerSettings
    hyper_parameters: Mapping[str, Any]  # dotted keys
    workspace: Mapping[str, Any]
    milvus: MilvusSettings
    index: Mapping[str, Any]  # type and its parameters, in Milvus' words
    retrieval: RetrievalSettings

    @property
    def model_dir(self) -> Path:
        """The model folder: where the yaml lies."""
        return self.file.parent

    def path(self, key: str) -> Path:
        """``runner.<key>`` as an absolute path; SettingsError when it is not set."""
        value: str | None = getattr(self.runner, key)
        if value is None:
            raise SettingsError(f"{self.file}: runner.{key} is missing and has no default")
        return Path(os.path.normpath(self.model_dir / value))

    @property
    def milvus_uri(self) -> str:
        """The uri, with a file's path made absolute."""
        uri = self.milvus.uri
        return uri if "://" in uri else str(self.model_dir / uri)

    def dotted(self) -> dict[str, Any]:
        """The flat mapping that PaddleRec's model folders and readers expect."""
        flat: dict[str, Any] = {"config_abs_dir": str(self.model_dir), "yaml_path": str(self.file)}
        flat |= {f"workspace.{key}": value for key, value in self.workspace.items()}
        runner = self.runner.model_dump(exclude_unset=True) | {"seed": self.runner.seed}
        flat |= {f"runner.{key}": value for key, value in runner.items()}
        flat |= {f"hyper_parameters.{key}": value for key, value in self.hyper_parameters.items()}
        return flat


def find_yaml(given: str, zoo: Path | None = None) -> Path:
    """The yaml for ``-m``: a path, or one inside the zoo without its task folder."""
    direct = Path(given)
    if direct.is_file():
        return direct.resolve()
    zoo = zoo or Path(__file__).resolve().parent.parent / "models"
    tasks = sorted(zoo.glob("*")) if not direct.is_absolute() else []
    found = [task / given for task in tasks if (task / given).is_file()]
    if len(found) == 1:
        return found[0].resolve()
    if found:
        raise SettingsError(f"-m {given}: several models match: {', '.join(map(str, found))}")
    known = [str(path.relative_to(zoo.parent)) for path in sorted(zoo.glob("*/*/config*.yaml"))]
    raise SettingsError(
        f"-m {given}: no such file, and none of that name in {zoo}"
        f"{nearest(given, [k.split('/', 2)[-1] for k in known])}; there are: {', '.join(known)}"
    )


def _flatten(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def read_mapping(file: Path, such_as: str) -> dict[Any, Any]:
    """The keys and values of a yaml. SettingsError: no file, no yaml, or no keys ``such_as``."""
    try:
        content = yaml.load(file.read_text(encoding="utf-8-sig"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{file}: is not yaml: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{file}: expected {such_as}, found {content!r:.60}")
    return content


def _read_yaml(file: Path) -> dict[str, Any]:
    """The yaml as one flat mapping of dotted keys."""
    content = read_mapping(file, "sections such as 'runner:'")
    sections = UPSTREAM_SECTIONS + OWN_SECTIONS
    for name, values in content.items():
        if name not in sections:
            hint = "" if name in OTHER_SECTIONS else nearest(str(name), sections)
            if hint or content.keys() & set(OWN_SECTIONS):
                hint = hint or f"; there are: {', '.join(sections)}"
                raise SettingsError(f"{file}: unknown section '{name}'{hint}")
            logger.warning("%s: section '%s' is read by nothing here", file, name)
        elif not isinstance(values, dict):
            raise SettingsError(f"{file}: {name}: expected keys and values, found {values!r:.60}")
    return dict(_flatten({name: content[name] for name in sections if name in content}))


def source_strings(model_dir: Path) -> set[str]:
    """Every string constant of the folder's own sources: the keys that its code can read."""
    strings: set[str] = set()
    for source in model_dir.glob("*.py"):
        try:
            tree = ast.parse(source.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue  # the zoo reports it when it is loaded
        strings |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
    return strings


def _known_keys(model_dir: Path, given: Sequence[str]) -> tuple[set[str], set[str]]:
    """Keys that something reads, and keys that are listed as candidates for a hint."""
    strings = source_strings(model_dir)
    known = {f"runner.{name}" for name in RunnerSettings.model_fields}
    known |= {f"milvus.{name}" for name in MilvusSettings.model_fields}
    known |= {f"retrieval.{name}" for name in RetrievalSettings.model_fields}
    known |= {"hyper_parameters.item_count", "hyper_parameters.maxlen"}  # the evaluator reads them
    known |= {text for text in strings if text.startswith(("runner.", "hyper_parameters."))}
    spelled_short = {
        key
        for key in given
        if key.startswith("hyper_parameters.") and key.split(".", 1)[1] in strings
    }
    # a model may build its keys from a table of short names; offer those for hints too
    offers = {
        f"hyper_parameters.{text}" for text in strings if text.replace(".", "").isidentifier()
    }
    return known | spelled_short, known | offers


def _check_keys(
    file: Path, flat: Mapping[str, Any], overrides: Mapping[str, Any], strict: bool
) -> None:
    """SettingsError for a key that nothing reads; in an upstream yaml a warning is enough."""
    known, offers = _known_keys(file.parent, [*flat, *overrides])
    unread = []
    for key in {**flat, **overrides}:
        section, _, name = key.partition(".")
        if key in known or section in ("index", "workspace"):
            continue
        mistyped = key in overrides and key not in flat
        if not strict and not mistyped:
            unread.append(key)
            continue
        names = [offer.partition(".")[2] for offer in offers if offer.startswith(f"{section}.")]
        hint = nearest(name, names) or ": nothing reads it"
        raise SettingsError(f"{'-o' if mistyped else file}: unknown key '{key}'{hint}")
    if unread:
        logger.warning("%s: read by nothing here: %s", file, ", ".join(unread))


def _parse_override(text: str, flat: Mapping[str, Any]) -> tuple[str, Any]:
    """``key=value`` typed as yaml, and as the yaml's own value where there is one."""
    key, equals, raw = text.strip().partition("=")
    sections = UPSTREAM_SECTIONS + OWN_SECTIONS
    if not equals or key.split(".", 1)[0] not in sections or "." not in key:
        raise SettingsError(
            f"-o {text}: expected SECTION.KEY=VALUE, sections: {', '.join(sections)}"
        )
    section, name = key.split(".", 1)
    is_path = section == "runner" and name in PATH_KEYS and raw != ""
    try:  # a path or a token may hold what yaml takes for something else
        value = raw if is_path or key == "milvus.token" else yaml.load(raw, _Loader)
    except yaml.YAMLError as error:
        raise SettingsError(f"-o {text}: the value is not yaml") from error
    if is_path:
        value = str(Path(value).resolve())
    if key == "milvus.uri" and isinstance(value, str) and value and "://" not in value:
        value = str(Path(value).resolve())
    old = flat.get(key)
    if isinstance(old, float) and type(value) is int:
        value = float(value)
    if section == "hyper_parameters" and old is not None and type(value) is not type(old):
        raise SettingsError(f"-o {text}: expected {type(old).__name__}, as in {old!r}")
    return key, value


def _section(model: type[Section], name: str, flat: Mapping[str, Any], file: Path) -> Any:
    values = {key.split(".", 1)[1]: v for key, v in flat.items() if key.startswith(f"{name}.")}
    try:
        return model(**values)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            key = ".".join(map(str, problem["loc"]))
            text = problem["msg"].removeprefix("Value error, ")
            given = f"{name}.{key}: {problem['input']!r}: " if key else f"{name}."
            problems.append(given + text[0].lower() + text[1:])
        raise SettingsError(f"{file}: {'; '.join(problems)}") from error


def load_settings(given: str | Path, overrides: Sequence[str] = ()) -> Settings:
    """Read the yaml ``given`` (as ``-m`` takes it), apply ``-o`` and the environment, check all.

    ``MILVUS_URI`` and ``MILVUS_TOKEN`` override the yaml, ``-o`` overrides both. SettingsError
    names file, key, value and what was expected.
    """
    file = find_yaml(str(given))
    flat = _read_yaml(file)
    strict = any(key.split(".", 1)[0] in OWN_SECTIONS for key in flat)
    changed = dict(_parse_override(text, flat) for text in overrides)
    _check_keys(file, flat, changed, strict)
    environment = {
        f"milvus.{name}": os.environ[variable]
        for name, variable in (("uri", "MILVUS_URI"), ("token", "MILVUS_TOKEN"))
        if os.environ.get(variable)
    }
    if "://" not in environment.get("milvus.uri", "://"):
        environment["milvus.uri"] = str(Path(environment["milvus.uri"]).resolve())
    flat = flat | environment | changed
    token = flat.get("milvus.token")
    flat["milvus.token"] = SecretStr("" if token is None else str(token))

    def free(section: str) -> dict[str, Any]:
        return {k.split(".", 1)[1]: v for k, v in flat.items() if k.startswith(f"{section}.")}

    return Settings(
        file=file,
        runner=_section(RunnerSettings, "runner", flat, file),
        hyper_parameters=free("hyper_parameters"),
        workspace=free("workspace"),
        milvus=_section(MilvusSettings, "milvus", flat, file),
        index=free("index"),
        retrieval=_section(RetrievalSettings, "retrieval", flat, file),
    )
