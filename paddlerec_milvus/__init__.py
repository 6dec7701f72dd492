# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Train MIND in PaddlePaddle, retrieve with Milvus, measure both."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paddlerec_milvus.api.recommender import Recommender

__version__ = "0.1.0"
__all__ = ["Recommender", "__version__"]


def __getattr__(name: str) -> Any:
    """``Recommender`` when it is first asked for: the rest need not wait for its imports."""
    if name == "Recommender":
        return importlib.import_module("paddlerec_milvus.api.recommender").Recommender
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
