# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``python -m paddlerec_milvus.data.migrate DIR``: a prepared folder of format 1 becomes one of 2.

Format 2 says in meta.json whether the log's ids were ints or strings. Only meta.json is written
anew, in one step; the other files stay as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from paddlerec_milvus.data.files import read_bytes, replacing
from paddlerec_milvus.data.id_map import Kind, read_item_ids, read_user_ids
from paddlerec_milvus.data.prepared import FORMAT, ITEMS, META, USERS, read_meta
from paddlerec_milvus.errors import DataError, UserError


def migrate(folder: Path) -> bool:
    """Bring ``folder`` to the format of today; False: it has it already.

    Raises:
        DataError: no prepared folder of ours, damaged, or it cannot be written; nothing changed.
    """
    path = folder / META
    try:
        meta = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); name a prepared folder") from None
    if not isinstance(meta, dict) or meta.get("format") != 1:
        read_meta(folder)  # an error unless it is of this format
        return False
    users: Kind = "string" if (folder / USERS).exists() else "int"
    meta = {"format": FORMAT, "ids": {"items": _kind_of(folder, meta), "users": users}} | {
        key: value for key, value in meta.items() if key != "format"
    }
    text = json.dumps(meta, indent=2, ensure_ascii=False) + "\n"
    with replacing(path) as fresh:
        fresh.write_text(text, encoding="utf-8")
    return True


def _kind_of(folder: Path, meta: dict[str, Any]) -> Kind:
    """What the log's item ids were, as prepare.py told them apart then: by their text."""
    path = folder / ITEMS
    try:
        ids = pl.read_csv(read_bytes(path), columns=["source_id"], infer_schema=False)["source_id"]
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read ({reason}); nothing was changed") from None
    if meta.get("recipe", {}).get("source", {}).get("string_ids"):
        return "string"
    integers = ids.cast(pl.Int64, strict=False).cast(pl.String)
    return "int" if integers.eq_missing(ids).all() else "string"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0, 2 for a mistake)."""
    parser = argparse.ArgumentParser(
        prog="python -m paddlerec_milvus.data.migrate",
        description="Bring prepared folders of format 1 to format 2, which says whether the log's "
        "ids were ints or strings.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    try:
        for folder in parser.parse_args(argv).folders:
            changed = migrate(folder)
            items, users = read_item_ids(folder).kind, read_user_ids(folder).kind
            state = f"now format {FORMAT}" if changed else f"was format {FORMAT} already"
            print(f"{folder}: {state}; ids of items: {items}, of users: {users}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
