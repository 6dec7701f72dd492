# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The recommended model against its rivals, and each model against its public implementation.

Rivals are the best baseline, the fusion of two, and SASRec of RecTools.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.evaluation.statistics import Difference, paired_bootstrap
from quality_table import fusion
from quality_table.baselines import METHODS
from quality_table.by_user import COMPARED, UserValues
from quality_table.models import COUNTERPARTS
from quality_table.results import (
    NAMES,
    Comparison,
    Estimate,
    LogQuality,
    MethodQuality,
    QualityReport,
    UnseenQuality,
)

RESAMPLES, BOOTSTRAP_SEED, LEVEL = 10_000, 1, 0.95
NORMAL_95 = 1.959964  # standard errors
NONE = np.empty((0, 0), dtype=np.float32)  # a row whose users' values are not known
UNSEEN = "unseen items"  # the items of a user's history are left out of the lists
Role = Literal["best baseline", "fusion", "peer", "counterpart"]
Metrics = MethodQuality | UnseenQuality


def compared(report: QualityReport, values: UserValues) -> QualityReport:
    """``report`` with the comparisons on every log.

    Paired where ``values`` has both rows; one that the report holds already stays where not.
    """
    logs = {
        name: log.model_copy(
            update={"comparisons": _comparisons(log, report.recommended.method, values)}
        )
        for name, log in report.data.items()
    }
    return report.model_copy(update={"data": logs})


def _comparisons(log: LogQuality, recommended: str, values: UserValues) -> list[Comparison]:
    earlier = {(known.metric, known.model, known.against): known for known in log.comparisons}
    plain: dict[str, Metrics] = dict(log.methods)
    unseen: dict[str, Metrics] = {
        name: row.unseen for name, row in log.methods.items() if row.unseen is not None
    }
    measured = [(plain, field, NAMES[field]) for field in COMPARED]
    measured += [(unseen, field, f"{NAMES[field]} of {UNSEEN}") for field in COMPARED]
    comparisons = []
    for row, (methods, field, metric) in enumerate(measured):
        for model, against, role in _pairs(methods, recommended, field):
            pair = [values.get((log.fingerprint, name), NONE) for name in (model, against)]
            known = earlier.get((metric, model, against))
            if all(row < len(of_row) for of_row in pair):
                gain, paired = _paired(pair[0][row], pair[1][row]), True
            elif known is not None:
                gain, paired = known.difference, known.paired
            else:
                ours, theirs = (_of(methods[name], field) for name in (model, against))
                gain, paired = _unpaired(ours, theirs), False
            comparison = Comparison(
                metric=metric,
                model=model,
                against=against,
                role=role,
                difference=gain,
                paired=paired,
            )
            comparisons.append(comparison)
    return comparisons


def _pairs(
    methods: Mapping[str, Metrics], recommended: str, field: str
) -> Iterator[tuple[str, str, Role]]:
    """Two rows that are compared in ``field``, and what the second is; rows without it are not."""
    known = {name for name, row in methods.items() if getattr(row, field) is not None}
    baselines = [name for name in methods if name in METHODS]
    if known >= {*baselines, recommended}:
        if baselines:
            best = max(baselines, key=lambda name: _of(methods[name], field).mean)
            yield recommended, best, "best baseline"
        others: Sequence[tuple[str, Role]] = [(fusion.NAME, "fusion"), ("sasrec_rectools", "peer")]
        for name, role in others:
            if name in known:
                yield recommended, name, role
    for ours, theirs in COUNTERPARTS.items():
        if known >= {ours, theirs}:
            yield ours, theirs, "counterpart"


def _of(row: Metrics, field: str) -> Estimate:
    estimate: Estimate = getattr(row, field)
    return estimate


def _paired(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> Difference:
    return paired_bootstrap(ours, theirs, RESAMPLES, LEVEL, BOOTSTRAP_SEED)


def _unpaired(ours: Estimate, theirs: Estimate) -> Difference:
    """From the standard errors over users alone, as if the users were others."""
    mean = ours.mean - theirs.mean
    spread = NORMAL_95 * float((ours.se_users**2 + theirs.se_users**2) ** 0.5)
    relative = mean / theirs.mean if theirs.mean else float("nan")
    return Difference(mean, mean - spread, mean + spread, relative)
