# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What of a machine, its packages and its Milvus is fine, and what to do where it is not."""
