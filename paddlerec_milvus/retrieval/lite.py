# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Milvus Lite's folder: whether a path can be one, and why it could not be opened."""

from __future__ import annotations

import fcntl
from importlib.util import find_spec
from pathlib import Path

from paddlerec_milvus.errors import RetrievalError


def check_lite_path(uri: str) -> None:
    """Raise RetrievalError for a path that Milvus Lite cannot use, before it is tried."""
    path = Path(uri)
    if find_spec("milvus_lite") is None:
        raise RetrievalError(
            f"milvus.uri: {uri} is a file of Milvus Lite, which is not installed: name a server "
            "(MILVUS_URI=http://host:19530), or pip install 'paddlerec-milvus[serve]'"
        )
    if path.suffix != ".db":
        raise RetrievalError(
            f"milvus.uri: {uri.rpartition('@')[2]!r} is neither a server's address "
            "(http://host:19530) nor a path that ends in .db, which Milvus Lite demands"
        )
    if not path.absolute().parent.is_dir():
        raise RetrievalError(f"milvus.uri: the folder of {uri} does not exist: create it first")
    if path.exists() and not path.is_dir():
        raise RetrievalError(
            f"milvus.uri: {uri} is a file, and Milvus Lite 3 keeps a folder of that name: it is "
            "damaged or of an older version. Move it away or give another path"
        )


def lite_problem(path: Path, reason: str) -> str:
    """Why Milvus Lite could not open ``path``: pymilvus says only that it failed."""
    try:
        with (path / "LOCK").open("rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return (
            f"Milvus Lite's {path} is in use by another process, and it serves one at a time. "
            "End that one, give another path, or use a server (`python -m "
            "paddlerec_milvus.retrieval.server`)"
        )
    except OSError as problem:
        return f"Milvus Lite cannot use {path}: {problem}. Give a path that can be written"
    return f"Milvus Lite cannot open {path}: {reason}. Is that folder one of Milvus Lite's?"
