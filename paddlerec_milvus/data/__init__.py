# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Click log to arrays, splits, id map: what a run reads, and the command that prepares it."""
