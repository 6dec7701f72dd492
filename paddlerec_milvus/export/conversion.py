# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""From PaddlePaddle's format for inference to ONNX, by paddle2onnx in a process of its own.

The converter ends its process at an operator that it lacks, and names none.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess  # nosec B404 # this very interpreter
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from paddlerec_milvus.errors import MissingPackageError, ModelError
from paddlerec_milvus.export.tower_layers import PREFIX

OPSET = 17
# of the graphs of this zoo, all of which are converted
CONVERTED = frozenset(
    [
        "add",
        "arange",
        "assign_value_",
        "bmm",
        "cast",
        "clip",
        "combine",
        "concat",
        "cumsum",
        "data",
        "divide",
        "dropout",
        "embedding",
        "exp",
        "expand",
        "eye",
        "fetch",
        "flatten",
        "full",
        "full_int_array",
        "full_like",
        "full_with_tensor",
        "gather",
        "gather_nd",
        "greater_equal",
        "layer_norm",
        "less_than",
        "matmul",
        "max",
        "multiply",
        "relu",
        "reshape",
        "rnn",
        "rsqrt",
        "scale",
        "shape64",
        "share_data_",
        "slice",
        "softmax",
        "squeeze",
        "stack",
        "subtract",
        "sum",
        "take_along_axis",
        "tanh",
        "transpose",
        "triu",
        "unsqueeze",
        "where",
    ]
)
LEAST_FREE = 1 << 20  # bytes; where a conversion fails with less, the disk was full
_CONVERT = """
import sys, paddle2onnx
graph, parameters, out, opset = sys.argv[1:]
paddle2onnx.export(graph, parameters, save_file=out, opset_version=int(opset),
                   enable_onnx_checker=True, optimize_tool="None")
"""


def convert(folder: Path, out: Path) -> None:
    """Write the graph in ``folder`` to the file ``out``.

    MissingPackageError: paddle2onnx is not installed. ModelError names the operators, and the
    layers that they are in, which no graph of this zoo has. OSError: the disk is full.
    """
    if find_spec("paddle2onnx") is None:
        raise MissingPackageError.of(ModuleNotFoundError("paddle2onnx", name="paddle2onnx"))
    files = [str(folder / f"{PREFIX}{end}") for end in (".json", ".pdiparams")]
    ran = subprocess.run(  # nosec B603
        [sys.executable, "-c", _CONVERT, *files, str(out), str(OPSET)],
        env={**os.environ, "GLOG_minloglevel": "2"},
        capture_output=True,
        text=True,
    )
    if ran.returncode == 0 and out.exists():
        _fold_tables(out)
        return
    # on a full disk it says something else, and what paddle wrote for it may be empty
    if shutil.disk_usage(folder).free < max(LEAST_FREE, Path(files[1]).stat().st_size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out))
    unknown = sorted(set(_operators(folder / f"{PREFIX}.json")))
    named = "; ".join(f"{operator} in the layer {layer}" for operator, layer in unknown)
    hint = f": operators that no model of this zoo has: {named}: write them by others"
    lines = [line for line in (ran.stdout + ran.stderr).splitlines() if "[ERROR]" in line]
    reason = lines[0].strip()[:200] if lines else f"exit code {ran.returncode}"
    raise ModelError(f"paddle2onnx does not convert the model{hint if named else ''} ({reason})")


def _fold_tables(file: Path) -> None:
    """Put constants into a file beside ``file``, those that are multiplied as one.

    The converter masks the padding of a table of embeddings by a product with a table as large.
    """
    model = onnx.load(file)
    graph, values = model.graph, {}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            values[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "Mul" and all(name in values for name in node.input):
            values[node.output[0]] = values[node.input[0]] * values[node.input[1]]
    nodes = [node for node in graph.node if not set(node.output) & values.keys()]
    read = {name for node in nodes for name in node.input} | {one.name for one in graph.output}
    tables = [numpy_helper.from_array(values[name], name) for name in values if name in read]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tables)
    location = f"{file.stem}.bin"
    onnx.save_model(model, file, save_as_external_data=True, location=location)
    for one in (file, file.with_name(location)):
        one.chmod(0o644)


def _operators(file: Path) -> Iterator[tuple[str, str]]:
    """Operators of a graph that are none of ``CONVERTED``, each with the layer that it is in."""

    def walk(part: Any) -> Iterator[tuple[str, str]]:
        if isinstance(part, list):
            for one in part:
                yield from walk(one)
        elif isinstance(part, dict):
            name = str(part.get("#", "")).partition(".")[2]
            if "O" in part and name and name not in CONVERTED:
                values = {one["N"]: one["AT"].get("D") for one in part.get("A", []) if "N" in one}
                yield name, str(values.get("struct_name", "")).strip("/") or "of the model itself"
            for one in part.values():
                yield from walk(one)

    yield from walk(json.loads(file.read_bytes())["program"])
