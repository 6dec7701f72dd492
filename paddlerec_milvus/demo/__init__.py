# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The demo: real books from their click log to lists that are measured and shown."""
