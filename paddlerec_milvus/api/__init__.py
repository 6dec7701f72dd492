# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The Python API: from a data frame of clicks to lists, by the code that the commands run."""
