# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Train MIND in PaddlePaddle, retrieve with Milvus, measure both."""

import os

from paddlerec_milvus.processor import cpu_text, use_fast_kernels

__version__ = "0.1.0"

use_fast_kernels(os.environ, cpu_text())
