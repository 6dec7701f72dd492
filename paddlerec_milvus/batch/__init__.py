# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The lists of all users, made at once: in shares, in parts, each exactly once."""
