# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A trained checkpoint and its test users as a workload."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paddlerec_milvus.bench.workload import Truths, Workload
from paddlerec_milvus.checkpoint import BEST, best_epoch
from paddlerec_milvus.command import settings_for
from paddlerec_milvus.encoder import Encoder
from paddlerec_milvus.evaluation.predict import Queries, read_users
from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.zoo import ModelFolder


def trained_workload(
    name: str,
    model: str,
    data: Path | None,
    options: Sequence[str],
    epoch: int | str,
    users: int,
    seed: int,
) -> Workload:
    """The items of a checkpoint, and ``users`` of its test users, drawn with ``seed`` (0: all).

    ``model``, ``data`` and ``options`` are what ``tools/infer.py`` takes as ``-m``, ``--data`` and
    ``-o``; ``epoch`` is a number or ``best``. Raises UserError: no checkpoint, one that does not
    fit, no test set.
    """
    settings = settings_for(model, options, data)
    held_out = read_users(settings, "test_data_dir")
    encoder = Encoder(settings, ModelFolder(settings.model_dir))
    folder = settings.path("infer_load_path")
    encoder.load(folder / str(epoch))
    rows = np.arange(len(held_out))
    if 0 < users < len(rows):
        rows = np.sort(np.random.default_rng(seed).choice(rows, users, replace=False))
    histories = held_out.history_list()
    truths = Truths(held_out.truth_indptr, held_out.truths)
    table = encoder.item_vectors()
    return Workload(
        name=name,
        vectors=table[1:],
        ids=np.arange(1, len(table), dtype=np.int64),
        interests=_interests(
            encoder, settings, Queries.of(held_out, encoder.maxlen, exclude_history=False)[rows]
        ),
        metric=settings.retrieval.metric,
        truths=truths.take(rows),
        histories=[histories[row] for row in rows],
        about={"model": model, "epoch": best_epoch(folder) if epoch == BEST else int(epoch)},
    )


def _interests(encoder: Encoder, settings: Settings, queries: Queries) -> FloatArray:
    step = settings.runner.infer_batch_size
    return np.concatenate(
        [
            encoder.interests(part.histories, part.lengths, part.users)
            for part in (
                queries[start : start + step] for start in range(0, len(queries.lengths), step)
            )
        ]
    )
