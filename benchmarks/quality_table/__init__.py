# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""benchmarks/quality.py: data → pieces of work → results → table, JSON, picture, check."""
