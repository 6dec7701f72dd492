# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Settings that all networks of several interests have, beside those of all models."""

from __future__ import annotations

import model_settings
from model_settings import AT_LEAST_ONE, FROM_ZERO

DEFAULTS = {
    **model_settings.DEFAULTS,
    "max_k": 4,
    "attention": "max",
    "routing_penalty": 0.0,
}
LIMITS = {
    **model_settings.LIMITS,
    "max_k": AT_LEAST_ONE,
    "attention": ("max", "hard"),
    "routing_penalty": FROM_ZERO,
}
