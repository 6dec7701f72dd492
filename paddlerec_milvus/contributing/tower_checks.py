# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The vectors of a trained model: their shapes and lengths, and what they may not depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle

from paddlerec_milvus.contributing.check_results import NotApplicableError
from paddlerec_milvus.contributing.trial import FloatArray, Trial
from paddlerec_milvus.errors import ModelError

TOLERANCE = 1e-4  # of the largest absolute value; another batch size adds in another order


def shapes(trial: Trial) -> str:
    """User vectors [B, K, D] and an item table [item_count, D], all finite."""
    trial.require_searched()
    users, table = trial.vectors(), trial.encoder.item_vectors()
    count = trial.settings.hyper_parameters.get("item_count")
    if table.ndim != 2 or (count is not None and len(table) != count):
        raise ModelError(
            f"item vectors have the shape {list(table.shape)}, expected [{count}, D]: a row for "
            "each id, row 0 for padding, which is never put into the index"
        )
    rows = len(trial.queries.lengths)
    if users.ndim != 3 or len(users) != rows or users.shape[2] != table.shape[1]:
        raise ModelError(
            f"user vectors have the shape {list(users.shape)}, expected [{rows}, K, "
            f"{table.shape[1]}]: the width of the item table, so that inner products can be taken"
        )
    for what, vectors in (("user", users), ("item", table[1:])):
        if not np.isfinite(vectors).all():
            raise ModelError(f"{what} vectors hold NaN or infinite values after a short training")
    return f"K {users.shape[1]}, D {users.shape[2]}, {len(table) - 1:,} items, all finite"


def unit_length(trial: Trial) -> str:
    """Where ``normalize`` is True every vector has length 1: an inner product is a cosine."""
    if trial.settings.hyper_parameters.get("normalize") is not True:
        raise NotApplicableError("hyper_parameters.normalize is not True: any length is right")
    for what, vectors in (("user", trial.vectors()), ("item", trial.encoder.item_vectors()[1:])):
        lengths = np.linalg.norm(vectors, axis=-1)
        if (worst := float(np.abs(lengths - 1).max())) > 1e-3:
            raise ModelError(
                f"hyper_parameters.normalize is True, but {what} vectors have lengths from "
                f"{lengths.min():.4f} to {lengths.max():.4f}"
            )
    return f"user and item vectors, to within {max(worst, 1e-7):.0e}"


def _apart(one: FloatArray, other: FloatArray) -> float:
    """The largest difference, beside the largest value."""
    return float(np.abs(one - other).max() / max(float(np.abs(one).max()), 1e-12))


def padding_stays_out(trial: Trial) -> str:
    """Neither padding's embedding nor the number of padded places changes a user's vectors."""
    before = trial.vectors()
    tables = [
        parameter
        for parameter in trial.encoder.model.parameters()
        if len(parameter.shape) == 2
        and parameter.shape[0] == trial.settings.hyper_parameters.get("item_count")
    ]
    stored = [parameter.numpy() for parameter in tables]
    for parameter, values in zip(tables, stored, strict=True):
        changed = values.copy()
        changed[0] = 3.0 * (np.abs(values).max() + 1.0)
        parameter.set_value(changed)
    try:
        after = trial.vectors()
    finally:
        for parameter, values in zip(tables, stored, strict=True):
            parameter.set_value(values)
    if (difference := _apart(before, after)) > TOLERANCE:
        raise ModelError(
            f"user vectors change by {difference:.1e} with the embedding of id 0, which is "
            "padding: mask what lies beyond seq_len"
        )
    return _fewer_places(trial, before)


def _fewer_places(trial: Trial, before: FloatArray) -> str:
    """The same histories, with fewer padded places behind them."""
    queries, maxlen = trial.queries, trial.encoder.maxlen
    short = np.flatnonzero(queries.lengths <= max(1, maxlen // 2))
    short = short if len(short) else np.flatnonzero(queries.lengths < maxlen)
    if not len(short):
        return "the embedding of id 0 changes nothing; no test history is shorter than maxlen"
    few = queries[short]
    width = int(few.lengths.max())
    try:
        after = trial.vectors(replace(few, histories=few.histories[:, :width]))
    except Exception:  # a tower may want maxlen places and says so in its own way
        return "the embedding of id 0 changes nothing; the tower takes maxlen places only"
    if (difference := _apart(before[short], after)) > TOLERANCE:
        raise ModelError(
            f"user vectors change by {difference:.1e} when {maxlen - width} of the padded places "
            "are left away: a mean over all places, or a position counted from the padded end?"
        )
    return f"neither id 0's embedding nor {maxlen - width} padded places fewer change anything"


def company_changes_nothing(trial: Trial) -> str:
    """A user alone, in a batch and in another order has the same vectors; twice the same."""
    batched = trial.vectors()
    rows = np.arange(len(batched))
    again = trial.vectors()
    if not np.array_equal(batched, again):
        raise ModelError(
            "user vectors of the same batch differ from call to call: dropout or a draw in "
            "evaluation"
        )
    backwards = trial.vectors(trial.queries[rows[::-1]])[::-1]
    alone = np.concatenate([trial.vectors(trial.queries[rows[i : i + 1]]) for i in rows[:8]])
    for how, other in (("in another order", backwards), ("alone", alone)):
        if (difference := _apart(batched[: len(other)], other)) > TOLERANCE:
            raise ModelError(
                f"a user's vectors change by {difference:.1e} when the user comes {how}: "
                "statistics over a batch have no place in evaluation"
            )
    return f"{len(rows)} users in a batch, in another order and alone"


def device_changes_nothing(trial: Trial) -> str:
    """The vectors of the CPU are those of the GPU."""
    if not (paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count()):
        raise NotApplicableError("one device: there is a CPU alone")
    device, vectors = paddle.get_device(), []
    try:
        for name in ("cpu", "gpu"):
            paddle.set_device(name)
            encoder = type(trial.encoder)(trial.settings, trial.folder)
            encoder.load(trial.whole.out / "0")
            vectors.append(trial.vectors(encoder=encoder))
    finally:
        paddle.set_device(device)
    if (difference := _apart(*vectors)) > 10 * TOLERANCE:
        raise ModelError(f"user vectors differ by {difference:.1e} between CPU and GPU")
    return "CPU and GPU"
