# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A trained model as files that serve without PaddlePaddle."""
