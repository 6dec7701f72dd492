# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Ranking, match and multitask folders, measured by their own metrics as PaddleRec does.

Three things differ from PaddleRec's infer.py. It drops a last part of a batch; here all rows count.
Unless ``runner.use_auc`` is set it adds each epoch's rows to those of the epochs before; here each
epoch starts with new metrics. Of what ``infer_forward`` prints, its line at the end of an epoch has
the values of the last batch, here the mean over all rows.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from paddlerec_milvus.checkpoint import evaluated_checkpoints
from paddlerec_milvus.command import warn
from paddlerec_milvus.errors import ModelError
from paddlerec_milvus.evaluation.report import provenance
from paddlerec_milvus.evaluation.results import ForwardReport, ForwardResult
from paddlerec_milvus.forward import ForwardModel
from paddlerec_milvus.progress import Meter

logger = logging.getLogger(__name__)


def measure(model: ForwardModel) -> ForwardReport:
    """The epochs that the settings name, on all rows of ``runner.test_data_dir``."""
    logger.info(
        "%s is evaluated by its own metrics (%s): all rows count, each epoch starts anew",
        *(model.folder.path.name, ", ".join(model.names) or "none: by what infer_forward prints"),
    )
    epochs = {}
    for epoch, checkpoint in evaluated_checkpoints(model.settings):
        model.load(checkpoint)
        with model.folder.active():
            epochs[str(epoch)] = _epoch(model, epoch)
    return ForwardReport(format=1, epoch=epoch, epochs=epochs, **provenance(model.settings))


def _epoch(model: ForwardModel, epoch: int) -> ForwardResult:
    """One pass over the rows, with a log line every ``runner.print_interval`` batches."""
    interval, began = model.settings.runner.print_interval, time.perf_counter()
    metrics, _ = model.contract.create_metrics()
    meter, means, rows, waited = Meter(interval), RowMeans(), 0, began
    for batch_id, (size, batch) in enumerate(model.batches()):
        started = time.perf_counter()
        meter.reader += started - waited
        metrics, printed = model.forward(metrics, batch, size)
        means.add(printed, size)
        meter.run += time.perf_counter() - started
        meter.samples += size
        rows += size
        if batch_id % interval == 0:
            texts = {name: str(_array(value)).strip("[]") for name, value in printed.items()}
            words = _words(_values(model.names, metrics), texts)
            logger.info("epoch: %d, batch_id: %d, %s %s", epoch, batch_id, words, meter)
            meter = Meter(interval)
        waited = time.perf_counter()
    values, seconds = _values(model.names, metrics), time.perf_counter() - began
    texts = {name: f"{value:.6f}" for name, value in means.values().items()}
    logger.info("epoch: %d done, %s epoch time: %.2f s", epoch, _words(values, texts), seconds)
    for name, metric in zip(model.names, metrics, strict=False):
        if type(metric).__name__ == "Auc" and values[name] == 0:
            warn(
                f"epoch {epoch}: {name} is 0: paddle gives that where all labels are of one class; "
                "otherwise the order is exactly wrong"
            )
    return ForwardResult(
        metrics=_finite(values), printed=_finite(means.values()), rows=rows, seconds=seconds
    )


class RowMeans:
    """Means over rows of what ``infer_forward`` prints, a value of a whole batch for each row."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._rows: dict[str, int] = {}

    def add(self, printed: Mapping[str, Any], rows: int) -> None:
        """Count one batch of ``rows``. ModelError: a value is not of numbers."""
        for name, value in printed.items():
            try:
                mean = float(_array(value).astype(float).mean())
            except (ValueError, TypeError) as error:
                raise ModelError(f"infer_forward prints {name}, no numbers: {error}") from error
            self._sums[name] = self._sums.get(name, 0.0) + mean * rows
            self._rows[name] = self._rows.get(name, 0) + rows

    def values(self) -> dict[str, float]:
        """The means so far, by name."""
        return {name: total / self._rows[name] for name, total in self._sums.items()}


def _array(value: Any) -> np.ndarray[Any, Any]:
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def _values(names: list[str], metrics: list[Any]) -> dict[str, float]:
    """What the metrics have come to. ModelError: one is not a single number."""
    values = {}
    for name, metric in zip(names, metrics, strict=False):
        array = _array(metric.accumulate())
        if array.size != 1:
            raise ModelError(f"metric {name}: accumulate() gives {array}, not one number")
        values[name] = float(array.item())
    return values


def _words(values: Mapping[str, float], printed: Mapping[str, str]) -> str:
    """The middle of a log line, in PaddleRec's shape: ``auc: 0.771234,loss:0.4,``."""
    words = [f"{name}: {value:.6f}," for name, value in values.items()]
    return "".join(words + [f"{name}:{text}," for name, text in printed.items()])


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def table(report: ForwardReport) -> str:
    """A line for each epoch: its metrics, then the means of what ``infer_forward`` prints."""
    last = report.epochs[str(report.epoch)]
    header = ["", *last.metrics, *(f"mean of {name}" for name in last.printed), "rows"]
    model = Path(report.settings["file"]).parent.name.upper()
    lines = []
    for epoch, result in report.epochs.items():
        values = [*result.metrics.values(), *result.printed.values()]
        texts = ["nan" if value is None else f"{value:.6f}" for value in values]
        lines.append([f"{model}, epoch {epoch}", *texts, result.rows])
    return tabulate(lines, headers=header, stralign="right", disable_numparse=True)
