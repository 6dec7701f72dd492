# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``uvicorn main:app`` in this folder, or ``uvicorn --app-dir serving main:app`` anywhere."""

from paddlerec_milvus.serving.main import app

__all__ = ["app"]
