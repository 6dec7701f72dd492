# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Checks of Milvus: Lite takes and finds vectors, and the server of MILVUS_URI answers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from paddlerec_milvus.doctor.finding import Finding
from paddlerec_milvus.errors import UserError
from paddlerec_milvus.retrieval.connection import Connection
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.settings import split_credentials

SECONDS = 10.0  # for a call to a server
ROWS = 8


def lite() -> Finding:
    """Vectors are put into a Milvus Lite of a moment, and searched for."""
    began, subject = time.perf_counter(), "Milvus Lite"
    if find_spec("milvus_lite") is None:
        remedy = "for vectors without a server: pip install 'paddlerec-milvus[serve]'"
        return Finding("note", subject, "not installed", remedy)
    vectors, ids = np.eye(ROWS, dtype=np.float32), np.arange(1, ROWS + 1)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="paddlerec-milvus-doctor-") as place,
            MilvusRetriever(str(Path(place, "doctor.db")), "doctor") as retriever,
        ):
            retriever.versions.build(vectors, ids)
            nearest = retriever.search(vectors, 1).ids[:, 0]
        release = version("milvus-lite")
    except (UserError, OSError, PackageNotFoundError, ModuleNotFoundError) as error:
        remedy = "pip install --force-reinstall milvus-lite pymilvus, or use a server (MILVUS_URI)"
        return Finding("wrong", subject, str(error), remedy)
    if nearest.tolist() != ids.tolist():
        remedy = "pip install --upgrade milvus-lite pymilvus"
        return Finding("wrong", subject, f"{release} finds other vectors than it took", remedy)
    seconds = time.perf_counter() - began
    words = f"{release}: {ROWS} vectors inserted and found in {seconds:.1f} s"
    return Finding("ok", subject, words)


def server(environment: Mapping[str, str]) -> Finding | None:
    """Whether MILVUS_URI answers, with its version and never the token; None: it is not set."""
    uri = environment.get("MILVUS_URI", "")
    if not uri:
        return None
    shown, subject = split_credentials(uri)[0], "MILVUS_URI"
    file = Path(uri)
    if file.suffix == ".db" and file.absolute().parent.is_dir() and not file.exists():
        return Finding("ok", subject, f"{shown}: Milvus Lite; the first insert makes it")
    try:
        token = environment.get("MILVUS_TOKEN", "")
        with closing(Connection(uri, token=token, timeout=SECONDS)) as connection:
            if connection.is_lite:
                return Finding("ok", subject, f"{shown}: a folder of Milvus Lite, opened")
            release = connection.call("get_server_version")
    except UserError as error:
        remedy = "or unset MILVUS_URI: then Milvus Lite is used, a file beside the model"
        return Finding("wrong", subject, str(error), remedy)
    return Finding("ok", subject, f"{shown}: Milvus {release}")
