# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A start from earlier parameters, which leaves the tables that were filled from today's log.

``create_optimizer`` of GF-CF fills both of its tables in closed form, and nothing trains them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.checkpoint import load_parameters

Array = npt.NDArray[Any]


def fixed_tensors(model: Any) -> dict[str, Array]:
    """Copies of the tensors of ``model`` that nothing trains, by name."""
    state = model.state_dict()
    return {name: one.numpy().copy() for name, one in state.items() if one.stop_gradient}


def filled_since(model: Any, before: Mapping[str, Array]) -> dict[str, Array]:
    """Copies of the tensors of ``model`` that are no longer as ``before``, by name."""
    now = {name: one.numpy() for name, one in model.state_dict().items() if name in before}
    return {name: one.copy() for name, one in now.items() if not np.array_equal(one, before[name])}


def start_from(
    checkpoint: Path, model: Any, adapt: Callable[[Any], Any] | None, before: Mapping[str, Array]
) -> None:
    """Load ``checkpoint`` into ``model``, but for what was filled since ``before``.

    ``adapt`` is the model folder's translation of older files. CheckpointError: it does not fit.
    """
    filled = filled_since(model, before)
    load_parameters(checkpoint, model, adapt)
    state = model.state_dict()
    for name, values in filled.items():
        state[name].set_value(values)
