# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Loading settings: a model's yaml, ``-o`` overrides and the environment, read once and checked.

A yaml that has one of this project's sections is checked strictly: a key that nothing reads is an
error. In upstream's own yamls such keys are one warning; in ``-o`` such a key is an error always.
"""

from __future__ import annotations

import ast
import functools
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr, ValidationError

from paddlerec_milvus.bundle import base_of, zoos
from paddlerec_milvus.errors import SettingsError, nearest, redacted
from paddlerec_milvus.settings import (
    PATH_KEYS,
    MilvusSettings,
    QuotaSettings,
    RankingSettings,
    RetrievalSettings,
    RunnerSettings,
    Section,
    Settings,
)

logger = logging.getLogger(__name__)

UPSTREAM_SECTIONS = ("workspace", "runner", "hyper_parameters")
OWN_SECTIONS = ("milvus", "index", "retrieval", "ranking")
OTHER_SECTIONS = ("table_parameters",)  # of upstream's parameter server


class _Loader(yaml.SafeLoader):
    """Safe, and ``1e-3`` is a number (yaml 1.1 wants a dot and takes it for a string)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def find_yaml(name: str, zoo: Path | None = None) -> Path:
    """The yaml for ``-m``: a path, or one inside the zoo without its task folder.

    An installed package looks into ``models/`` of the working directory before its own zoo.
    """
    direct = Path(name)
    if direct.is_file():
        return direct.resolve()
    places = zoos() if zoo is None else [zoo]
    for place in places if not direct.is_absolute() else ():
        matches = [task / name for task in sorted(place.glob("*")) if (task / name).is_file()]
        if len(matches) == 1:
            return matches[0].resolve()
        if matches:
            raise SettingsError(f"-m {name}: several models match: {', '.join(map(str, matches))}")
    known = sorted(
        {
            str(path.relative_to(place.parent))
            for place in places
            for path in place.glob("*/*/config*.yaml")
        }
    )
    raise SettingsError(
        f"-m {name}: no such file, and none of that name in {' or '.join(map(str, places))}"
        f"{nearest(name, [k.split('/', 2)[-1] for k in known])}; there are: {', '.join(known)}"
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
        text = file.read_text(encoding="utf-8-sig")
        content = yaml.load(text, _Loader)  # nosec B506 # a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{file}: is not yaml: {_yaml_problem(error)}") from None
    if not isinstance(content, dict):
        raise SettingsError(redacted(f"{file}: expected {such_as}, found {content!r:.60}"))
    return content


def _yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong and where; the text of that line, which may hold a secret, is not shown."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return type(error).__name__
    problem = re.sub("'[^'<]{3,}'", "'…'", error.problem or "")
    return f"{problem}, line {error.problem_mark.line + 1}"


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
            text = f"{file}: {name}: expected keys and values, found {values!r:.60}"
            raise SettingsError(redacted(text))
    return dict(_flatten({name: content[name] for name in sections if name in content}))


def source_strings(model_dir: Path) -> set[str]:
    """Every string constant of the folder's own sources: the keys that its code can read."""
    strings: set[str] = set()
    for source in model_dir.glob("*.py"):
        try:
            strings |= _string_constants(source.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue  # the zoo reports it when it is loaded
    return strings


@functools.lru_cache(maxsize=64)  # parsing takes longer than all else of reading a yaml
def _string_constants(source: str) -> frozenset[str]:
    return frozenset(
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _known_keys(model_dir: Path, keys: Sequence[str]) -> tuple[set[str], set[str]]:
    """Keys that something reads, and keys that are listed as candidates for a hint."""
    strings = source_strings(model_dir)
    known = {f"runner.{name}" for name in RunnerSettings.model_fields}
    known |= {f"milvus.{name}" for name in MilvusSettings.model_fields}
    known |= {f"retrieval.{name}" for name in RetrievalSettings.model_fields}
    known |= {f"ranking.quotas.{name}" for name in QuotaSettings.model_fields}
    known |= {"hyper_parameters.item_count", "hyper_parameters.maxlen"}  # the evaluator reads them
    known |= {text for text in strings if text.startswith(("runner.", "hyper_parameters."))}
    spelled_short = {
        key
        for key in keys
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
    shown = f"-o {redacted(text)}"
    sections = UPSTREAM_SECTIONS + OWN_SECTIONS
    if not equals or key.split(".", 1)[0] not in sections or "." not in key:
        raise SettingsError(f"{shown}: expected SECTION.KEY=VALUE, sections: {', '.join(sections)}")
    section, name = key.split(".", 1)
    is_path = section == "runner" and name in PATH_KEYS and raw != ""
    try:  # a path or a token may hold what yaml takes for something else
        is_uri = key == "milvus.uri" and raw[:1] not in tuple("'\"[{")
        free = is_path or is_uri or key == "milvus.token"
        value = raw if free else yaml.load(raw, _Loader)  # nosec B506 # a SafeLoader
    except yaml.YAMLError:
        raise SettingsError(f"{shown}: the value is not yaml") from None
    if is_path:
        value = str(Path(value).resolve())
    if key == "milvus.uri" and isinstance(value, str) and value and "://" not in value:
        value = str(Path(value).resolve())
    old = flat.get(key)
    if isinstance(old, float) and type(value) is int:
        value = float(value)
    if section == "hyper_parameters" and old is not None and type(value) is not type(old):
        raise SettingsError(f"{shown}: expected {type(old).__name__}, as in {old!r}")
    return key, value


def _section(model: type[Section], name: str, flat: Mapping[str, Any], file: Path) -> Any:
    start = f"{name}."
    values = {key.removeprefix(start): v for key, v in flat.items() if key.startswith(start)}
    try:
        return model(**values)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            key = ".".join(map(str, problem["loc"]))
            text = problem["msg"].removeprefix("Value error, ")
            where = f"{name}.{key}: {problem['input']!r}: " if key else f"{name}."
            problems.append(where + text[0].lower() + text[1:])
        raise SettingsError(f"{file}: {redacted('; '.join(problems))}") from None


def default_collection(folder: str) -> str:
    """The collection on Milvus of a model whose yaml names none: each folder has its own."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", folder)
    return f"{'_' if name[:1].isdigit() else ''}{name}_items"


def load_settings(model: str | Path, overrides: Sequence[str] = ()) -> Settings:
    """Read the yaml of ``model`` (as ``-m`` takes it), apply ``-o`` and the environment, check all.

    ``MILVUS_URI`` and ``MILVUS_TOKEN`` override the yaml, ``-o`` overrides both. SettingsError
    names file, key, value and what was expected.
    """
    file = find_yaml(str(model))
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
    flat.setdefault("milvus.collection", default_collection(file.parent.name))
    token = flat.get("milvus.token")
    flat["milvus.token"] = SecretStr("" if token is None else str(token))

    def free(section: str) -> dict[str, Any]:
        return {k.split(".", 1)[1]: v for k, v in flat.items() if k.startswith(f"{section}.")}

    return Settings(
        file=file,
        base=base_of(file),
        runner=_section(RunnerSettings, "runner", flat, file),
        hyper_parameters=free("hyper_parameters"),
        workspace=free("workspace"),
        milvus=_section(MilvusSettings, "milvus", flat, file),
        index=free("index"),
        retrieval=_section(RetrievalSettings, "retrieval", flat, file),
        ranking=RankingSettings(quotas=_section(QuotaSettings, "ranking.quotas", flat, file)),
    )
