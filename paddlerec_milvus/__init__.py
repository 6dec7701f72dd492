# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Train MIND in PaddlePaddle, retrieve with Milvus, measure both."""

__version__ = "0.1.0"
