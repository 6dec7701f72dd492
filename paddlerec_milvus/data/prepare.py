# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Write a prepared folder, all or nothing.

``train/clicks.csv``, ``valid/part-0`` and ``test/part-0`` in the contract's formats, ``items.csv``
(item, source_id, title, category), ``users.csv`` (uid, source_id) where the source's user ids were
strings, side features where there are any (see ``features``), ``item_times.csv`` of a split by time
(see ``item_times``), and ``meta.json``.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddlerec_milvus.data.dataset import SplitLog
from paddlerec_milvus.data.feature_files import FeatureFiles
from paddlerec_milvus.data.features import (
    ITEM_FEATURE_VALUES,
    ITEM_FEATURES,
    USER_FEATURE_VALUES,
    USER_FEATURES,
    Features,
    item_features,
    user_features,
)
from paddlerec_milvus.data.files import write_file, write_table
from paddlerec_milvus.data.prepared import FORMAT, ITEM_TIMES, ITEMS, META, read_meta
from paddlerec_milvus.data.sources import Source
from paddlerec_milvus.data.split import DEFAULT_MIN_COUNT, DEFAULT_SEED
from paddlerec_milvus.data.split_choice import BY_USERS, SplitChoice
from paddlerec_milvus.data.staging import recover, staged
from paddlerec_milvus.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What ``prepare`` found or made."""

    folder: Path
    meta: dict[str, Any]
    already: bool  # the folder was there, from the same source and parameters


def prepare(
    source: Source,
    out: Path,
    seed: int = DEFAULT_SEED,
    min_count: int = DEFAULT_MIN_COUNT,
    overwrite: bool = False,
    features: FeatureFiles | None = None,
    split: SplitChoice = BY_USERS,
) -> Outcome:
    """Prepare ``source`` in ``out``, or find that this has been done.

    Raises:
        DataError: source or features cannot be read, ``out`` holds something else, or cannot be
            written.
    """
    out = out.resolve()
    features = features or FeatureFiles()
    recipe: dict[str, Any] = {"seed": seed, "min_count": min_count, "split": split.identity()}
    try:
        recipe = {"source": source.identity(), **recipe}
        if identity := features.identity():
            recipe["features"] = identity
        recover(out)
        meta = _find(out)
    except OSError as error:
        raise DataError(f"{error.filename or out}: cannot be used: {error.strerror}") from None
    if meta is not None and not overwrite:
        return _reuse(out, meta, recipe)
    logger.info("reading %s", recipe["source"]["kind"])
    with staged(out) as staging:
        items, users = features.read()  # first: a mistake in it need not wait for the log
        dataset = source.dataset(seed, min_count, split)
        coded = (
            item_features(dataset, items, features.min_count),
            user_features(dataset, users, features.min_count),
        )
        logger.info("writing %s", out)
        meta = write_dataset(staging, dataset, recipe, *coded)
        there = _find(out)  # again: what was put there meanwhile is not to be replaced
        if there is not None and not overwrite:
            _reuse(out, there, recipe)
    return Outcome(out, meta, already=False)


def _find(out: Path) -> dict[str, Any] | None:
    """The meta.json at ``out``, None for a free place; anything else is never touched."""
    if out.is_file():
        raise DataError(f"{out}: is a file; name a folder with --out")
    if not out.exists() or not any(out.iterdir()):
        return None
    refusal = "it is left alone, with --overwrite too; name another folder with --out"
    if not (out / META).is_file():
        raise DataError(f"{out}: is not empty and was not made by prepare.py; {refusal}")
    meta = read_meta(out, "remove the folder, or name another folder with --out")
    written = {META, *meta.get("files", {})}
    foreign = sorted(
        str(path.relative_to(out))
        for path in out.rglob("*")
        if not path.is_dir() and str(path.relative_to(out)) not in written
    )
    if foreign:
        raise DataError(f"{out}: holds {foreign[0]}, which prepare.py did not write; {refusal}")
    return meta


def _reuse(out: Path, meta: dict[str, Any], recipe: dict[str, Any]) -> Outcome:
    """The folder as it is, if it is what was asked for and its files are whole."""
    before = meta.get("recipe", {})
    flat, needed = _flat(before), _flat(recipe)
    differing = [key for key in sorted({*flat, *needed}) if flat.get(key) != needed.get(key)]
    if differing:
        changes = ", ".join(f"{k}: {flat.get(k)} there, {needed.get(k)} asked" for k in differing)
        raise DataError(
            f"{out}: was prepared otherwise ({changes}); replace it with --overwrite, or name "
            "another folder with --out"
        )
    for name, record in meta["files"].items():
        path = out / name
        if not path.is_file() or path.stat().st_size != record["bytes"]:
            raise DataError(f"{path}: missing or changed since; make it again with --overwrite")
    return Outcome(out, meta, already=True)


def _flat(recipe: dict[str, Any]) -> dict[str, Any]:
    # file names are for the reader; the checksum says whether it is the same file
    nested = {**recipe.get("source", {}), **recipe.get("features", {})}
    flat = {k: v for k, v in recipe.items() if k not in ("source", "features", "split")}
    split = recipe.get("split", BY_USERS.identity())  # a folder of before other splits has none
    flat |= {"split" if key == "kind" else key: value for key, value in split.items()}
    return {**flat, **{k: v for k, v in nested.items() if k != "file" and not k.endswith("_file")}}


def write_dataset(
    folder: Path,
    dataset: SplitLog,
    recipe: dict[str, Any],
    items: Features | None = None,
    users: Features | None = None,
) -> dict[str, Any]:
    """Write all files of a prepared folder; meta.json last. Returns its content.

    ``items`` and ``users`` are their side features.
    """
    files = dataset.write(folder)
    files[ITEMS] = write_table(folder / ITEMS, dataset.items)
    files |= dataset.write_users(folder)
    if dataset.item_times is not None:
        files[ITEM_TIMES] = write_table(folder / ITEM_TIMES, dataset.item_times.frame)
    if items is not None:
        files[ITEM_FEATURES] = write_table(folder / ITEM_FEATURES, items.codes)
        files[ITEM_FEATURE_VALUES] = write_table(folder / ITEM_FEATURE_VALUES, items.values)
    if users is not None:
        files[USER_FEATURES] = write_table(folder / USER_FEATURES, users.codes)
        files[USER_FEATURE_VALUES] = write_table(folder / USER_FEATURE_VALUES, users.values)
    kinds = {"item": items, "user": users}
    features = {kind: coded.summary() for kind, coded in kinds.items() if coded is not None}
    meta = describe(dataset) | {"features": features, "recipe": recipe, "files": files}
    text = json.dumps(meta, indent=2, ensure_ascii=False) + "\n"
    write_file(folder / META, lambda file: file.write(text.encode()))
    return meta


def describe(dataset: SplitLog) -> dict[str, Any]:
    """The split of a dataset, and its counts."""
    splits, cold_items = dataset.counts()
    times = dataset.item_times
    return {
        "format": FORMAT,
        "ids": {"items": dataset.item_ids, "users": dataset.user_ids},
        "item_count": dataset.items.height + 1,  # embedding rows: row 0 is padding
        "items": dataset.items.height,
        "users": sum(split["users"] for split in splits.values()),
        "clicks": sum(split["clicks"] for split in splits.values()),
        "split": dict(dataset.split),
        "splits": splits,
        "cold_items": cold_items,
        "titles": int((dataset.items["title"] != "").sum()),
        **({} if times is None else {"item_window": times.window}),
        **dataset.notes,  # users and clicks of a log of which a click is in several parts
    }
