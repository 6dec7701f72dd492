# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Preparing a log by Spark: the same folder as on one machine, for logs beyond its memory."""
