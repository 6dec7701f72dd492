# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""ONNX graphs as this project runs them: on the calling thread alone."""

from __future__ import annotations

import os
from pathlib import Path

# without it the import writes a device's id into ~/.cache and sends its maker what is run
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

from paddlerec_milvus.errors import CheckpointError


def session_of(graph: Path | bytes, called: str, remedy: str) -> onnxruntime.InferenceSession:
    """A graph that is ready to run.

    CheckpointError, in which it is ``called`` so and the ``remedy`` is named: it is none.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is fatal alone: the rest is an error of ours
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class for each way to be damaged
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{called} cannot be read: {reason:.200}; {remedy}") from None
