# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Settings of a model folder, in the yaml's words: their defaults, and what each may be.

The tables here hold what every model of this family has; a model's ``dygraph_model.py`` adds its
own. A limit is one of the five below, or the values to choose from.
"""

from __future__ import annotations

import math

AT_LEAST_ONE = "at least 1"
ABOVE_ZERO = "above 0"
FROM_ZERO = "from 0"
BELOW_ONE = "from 0 to below 1"
UP_TO_ONE = "from 0 to 1"
HOLDS = {
    AT_LEAST_ONE: lambda value: value >= 1,
    ABOVE_ZERO: lambda value: value > 0 and math.isfinite(value),
    FROM_ZERO: lambda value: value >= 0 and math.isfinite(value),
    BELOW_ONE: lambda value: 0 <= value < 1,
    UP_TO_ONE: lambda value: 0 <= value <= 1,
}

# the values taken where a yaml of PaddleRec's lacks them
DEFAULTS = {
    "embedding_dim": 64,
    "emb_init_std": 0.005,
    "item_start": "random",
    "neg_samples": 128,
    "maxlen": 20,
    "normalize": True,
    "temperature": 0.1,
    "sampler": "uniform",
    "sampler_power": 0.75,
    "batch_negatives": False,
    "hard_negatives": 0.0,
    "dropout": 0.0,
    "item_features": False,
    "optimizer.class": "Adam",
    "optimizer.learning_rate": 0.002,
    "optimizer.schedule": "cosine",
    "optimizer.warmup": 0.0,
}
LIMITS = {
    "embedding_dim": AT_LEAST_ONE,
    "emb_init_std": ABOVE_ZERO,
    "item_start": ("random", "clicks"),
    "neg_samples": AT_LEAST_ONE,
    "maxlen": AT_LEAST_ONE,
    "temperature": ABOVE_ZERO,
    "sampler": ("uniform", "log_uniform", "popularity", "all"),
    "sampler_power": FROM_ZERO,
    "hard_negatives": FROM_ZERO,
    "dropout": BELOW_ONE,
    # those that take sparse gradients
    "optimizer.class": ("Adam", "SGD", "Adagrad", "Momentum", "RMSProp"),
    "optimizer.learning_rate": ABOVE_ZERO,
    "optimizer.schedule": ("constant", "cosine"),
    "optimizer.warmup": BELOW_ONE,
}


def read_settings(config, defaults, limits, conflicts):
    """The settings of ``config`` that ``defaults`` names, by their short names, and item_count.

    ``conflicts(settings)`` lists what is wrong with settings that are right one by one. ValueError
    names every key that is wrong with its value and what was expected.
    """
    read = {name: config.get(f"hyper_parameters.{name}", value) for name, value in defaults.items()}
    read["item_count"] = config.get("hyper_parameters.item_count", 0)
    wrong = [
        f"{name}: {read[name]!r} (expected {type(value).__name__})"
        for name, value in defaults.items()
        if type(read[name]) is not type(value)
        and not (type(value) is float and type(read[name]) is int)
    ]
    if type(read["item_count"]) is not int:
        wrong.append(f"item_count: {read['item_count']!r} (expected int)")
    if not wrong:
        wrong = beyond_limits(read, limits) + conflicts(read)
    if wrong:
        raise ValueError("hyper_parameters." + "; hyper_parameters.".join(wrong))
    return read


def beyond_limits(read, limits):
    """What is wrong with settings ``read`` whose types are right, one by one."""
    wrong = []
    for name, limit in limits.items():
        value = read[name]
        if isinstance(limit, tuple) and value not in limit:
            wrong.append(f"{name}: {value} (one of {', '.join(limit)})")
        elif isinstance(limit, str) and not HOLDS[limit](value):
            wrong.append(f"{name}: {value} ({limit})")
    if not read["item_count"] >= 2:
        wrong.append(f"item_count: {read['item_count']} (largest item id + 1, at least 2)")
    return wrong


def too_many_negatives(read):
    """What is wrong with ``neg_samples`` for the items that there are; of training alone."""
    items = read["item_count"] - 1
    if read["sampler"] == "all" or read["neg_samples"] <= items:
        return []
    return [
        f"neg_samples: {read['neg_samples']} (there are {items} items; for a softmax over all of "
        "them set sampler: all)"
    ]
