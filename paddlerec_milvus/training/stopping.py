# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Why a run ends before its last epoch: on request, or because it has diverged."""

from __future__ import annotations

import logging
import math
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paddle

from paddlerec_milvus.errors import TrainingError

logger = logging.getLogger(__name__)

# what makes a loss overflow, where a model folder has it
STEEP_KEYS = ("hyper_parameters.optimizer.learning_rate", "hyper_parameters.temperature")


class Interrupted(KeyboardInterrupt):
    """Training stopped on request, after it saved where it stood."""


@contextmanager
def stop_on_request(*, once: bool = False) -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets; a second Ctrl-C stops at once.

    With ``once`` further ones change nothing, and after it none does to the end of the process: a
    launcher sends several, also to one that is about to say why it ends.
    """
    requested = threading.Event()

    def ask(signum: int, frame: object) -> None:
        if requested.is_set() and not once:
            raise KeyboardInterrupt
        if not requested.is_set():
            more = "" if once else "; once more stops at once and loses the epoch"
            logger.info("stopping after this batch%s", more)
        requested.set()

    if threading.current_thread() is not threading.main_thread():
        yield requested
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if once else handler)


@contextmanager
def nan_is_divergence(place: str, config: Mapping[str, Any], saved: Path | None) -> Iterator[None]:
    """TrainingError where a metric of a model folder meets a NaN before its loss is seen."""
    try:
        yield
    except ValueError as error:  # "cannot convert float NaN to integer", by paddle's AUC
        if "NaN" not in str(error):
            raise
        raise _diverged(f"{place}: a metric of the model folder: {error}", config, saved) from error


def require_finite_loss(
    loss: Any, place: str, config: Mapping[str, Any], saved: Path | None
) -> None:
    """TrainingError when ``loss`` is NaN or infinite; on a device this waits for the step."""
    value = float(loss.astype("float32").mean())
    if not math.isfinite(value):
        raise _diverged(f"{place}: the loss is {value}", config, saved)


def require_finite_parameters(
    model: Any, place: str, config: Mapping[str, Any], saved: Path | None
) -> None:
    """TrainingError that names each parameter of ``model`` with NaN or infinite values."""
    broken = [
        name
        for name, value in model.state_dict().items()
        if paddle.is_floating_point(value) and not bool(paddle.isfinite(value).all())
    ]
    if broken:
        raise _diverged(f"{place}: NaN or infinite: {', '.join(broken)}", config, saved)


def _diverged(what: str, config: Mapping[str, Any], saved: Path | None) -> TrainingError:
    steep = [f"{key}: {config[key]}" for key in STEEP_KEYS if key in config]
    good = "this run has saved no checkpoint yet"
    if saved is not None:
        good = f"the last good checkpoint is {saved}, from which --resume goes on"
    return TrainingError(
        f"{what}; {good}. Lower the learning rate, raise a temperature, or look for such values in "
        f"the data{' (' + ', '.join(steep) + ')' if steep else ''}"
    )
