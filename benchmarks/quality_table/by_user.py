# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Values of single users beside the results, so that rows of any two runs can be compared paired.

An array [M, U] float32 for each row: M metrics (``COMPARED``) of U test users, means over seeds;
then, where they were measured, the same with the histories left out of the lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.data.files import replacing
from paddlerec_milvus.errors import DataError
from quality_table.results import Measurement, QualityReport

COMPARED = ("recall", "ndcg", "ndcg_short")
UserValues = dict[tuple[str, str], npt.NDArray[np.float32]]
"""By the fingerprint of a log and the name of a row."""


def file_beside(results: Path) -> Path:
    """Where the values of the rows of ``results`` (a json) lie."""
    return results.with_name(f"{results.stem}_users.npz")


def values_of(measurements: Sequence[Measurement]) -> npt.NDArray[np.float32]:
    """Means [M, U] over the trainings of a row."""
    values = [
        [
            getattr(lists, name)
            for lists in (one.test, one.unseen)
            if lists is not None
            for name in COMPARED
        ]
        for one in measurements
    ]
    return np.asarray(np.mean(values, axis=0), dtype=np.float32)


def read_values(results: Path) -> UserValues:
    """The values beside ``results``; none where there is no such file. DataError: it is damaged."""
    file = file_beside(results)
    if not file.exists():
        return {}
    try:
        with np.load(file) as arrays:
            return {_row_of(key): arrays[key] for key in arrays.files}
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: no values of users: {error}; remove it") from error


def _row_of(key: str) -> tuple[str, str]:
    fingerprint, _, method = key.partition("-")
    return fingerprint, method


def matching(values: UserValues, report: QualityReport) -> UserValues:
    """Those of the rows of ``report``, by their means: the others are of other measurements."""
    chosen = {}
    for log in report.data.values():
        for name, row in log.methods.items():
            of_row = values.get((log.fingerprint, name))
            means = [getattr(of, field) for of in (row, row.unseen) if of for field in COMPARED]
            if of_row is None or None in means or len(of_row) != len(means):
                continue
            if np.allclose(
                of_row.mean(axis=1, dtype=np.float64), [estimate.mean for estimate in means]
            ):
                chosen[log.fingerprint, name] = of_row
    return chosen


def write_values(values: UserValues, results: Path) -> None:
    """Put ``values`` beside ``results``."""
    arrays = {f"{fingerprint}-{method}": of_row for (fingerprint, method), of_row in values.items()}
    with replacing(file_beside(results)) as fresh, fresh.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
