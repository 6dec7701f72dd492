# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Imported before a service is forked: all that it would import at its start."""

from __future__ import annotations

import paddle  # noqa: F401

import paddlerec_milvus.serving.app  # noqa: F401
from paddlerec_milvus.retrieval.connection import _pymilvus

_pymilvus()
