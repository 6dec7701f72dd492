# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The epoch loop: trains any model folder that keeps PaddleRec's contract."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from paddlerec_milvus.config import Settings
from paddlerec_milvus.errors import DataError, SettingsError
from paddlerec_milvus.training.batches import data_files, open_batches, seed_everything
from paddlerec_milvus.training.checkpoint import (
    INTERRUPTED,
    Position,
    load_parameters,
    load_training_state,
    newest,
    random_state,
    save_checkpoint,
    set_random_state,
    supersede,
)
from paddlerec_milvus.zoo import DygraphModel, ModelFolder

logger = logging.getLogger(__name__)

# what decides the order of batches inside an epoch
ORDER_KEYS = (
    "runner.seed",
    "runner.train_batch_size",
    "runner.train_data_dir",
    "runner.num_workers",
)


class Interrupted(KeyboardInterrupt):
    """Training stopped on request, after it saved where it stood."""


def use_device(settings: Settings) -> None:
    """Select the device that the settings ask for; SettingsError when this paddle lacks it."""
    runner = settings.runner
    device = (
        "xpu" if runner.use_xpu else "npu" if runner.use_npu else "gpu" if runner.use_gpu else "cpu"
    )
    try:
        paddle.set_device(device)
    except (ValueError, RuntimeError) as error:
        raise SettingsError(
            f"runner.use_{device}: True, but this paddle has no {device} "
            f"({str(error).strip().splitlines()[-1]}); set it to False, or install "
            "'paddlerec-milvus[gpu]'"
        ) from error


@contextmanager
def stop_on_request() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets; a second Ctrl-C stops at once."""
    asked = threading.Event()

    def ask(signum: int, frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        logger.info("stopping after this batch; once more stops at once and loses the epoch")

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Meter:
    """Reader and step seconds, and samples, since the last log line."""

    interval: int  # batches between two lines
    reader: float = 0.0
    run: float = 0.0
    samples: int = 0

    def __str__(self) -> str:
        """PaddleRec's words."""
        total = self.reader + self.run
        return (
            f"avg_reader_cost: {self.reader / self.interval:.5f} sec, "
            f"avg_batch_cost: {total / self.interval:.5f} sec, "
            f"avg_samples: {self.samples / self.interval:.5f}, "
            f"ips: {self.samples / max(total, 1e-9):.5f} ins/s"
        )


def _words(values: list[tuple[str, str, float]]) -> str:
    return "".join(f"{name}:{text}, " for name, text, _ in values)


@dataclass
class Trainer:
    """One run over one model folder."""

    settings: Settings
    folder: ModelFolder
    resume: bool = False
    step: int = 0
    working_dir: Path = field(default_factory=Path.cwd)  # the user's, for log lines
    config: dict[str, Any] = field(init=False)
    contract: DygraphModel = field(init=False)
    model: Any = field(init=False)
    optimizer: Any = field(init=False)
    batches: Any = field(init=False)  # called with an epoch number, gives an iterator
    names: tuple[Any, ...] = ()  # paddle's name counters

    def __post_init__(self) -> None:
        settings = self.settings
        if settings.runner.use_fleet:
            raise SettingsError(
                "runner.use_fleet: True, but this trainer runs in one process; set it to False"
            )
        use_device(settings)
        seed_everything(settings.runner.seed)
        self.config = settings.dotted()
        self.contract = self.folder.dygraph_model()
        with self.folder.active(), self.folder.settings_errors(), self._own_names():
            self.model = self.contract.create_model(self.config)
            self.optimizer = self.contract.create_optimizer(self.model, self.config)
        if not hasattr(self.optimizer, "step"):
            raise SettingsError(
                f"{self.folder.path}: create_optimizer gives a {type(self.optimizer).__name__}, "
                "not one optimizer: this folder needs a trainer of its own"
            )
        if settings.runner.model_init_path is not None:
            load_parameters(settings.path("model_init_path"), self.model, self._adapt)
        self.batches = self._open_reader()
        self.save_path = settings.path("model_save_path")

    @contextmanager
    def _own_names(self) -> Iterator[None]:
        """Name counters of this run alone: a resume finds accumulators by their names."""
        before = paddle.utils.unique_name.switch(*self.names)
        try:
            yield
        finally:
            self.names = paddle.utils.unique_name.switch(*before)

    @property
    def _adapt(self) -> Any:
        return getattr(self.contract, "adapt_state_dict", None)

    def _open_reader(self) -> Any:
        runner = self.settings.runner
        files = data_files(self.settings.path("train_data_dir"), "runner.train_data_dir")
        dataset = self.folder.reader(runner.train_reader_path, files, self.config)
        return open_batches(dataset, runner.train_batch_size, runner.num_workers)

    def run(self) -> None:
        """Train until ``runner.epochs``; Interrupted when asked to stop."""
        start = self._starting_point()
        first = 0 if start is None else start.epoch + int(start.done)
        epochs = range(first, self.settings.runner.epochs)
        if not epochs:
            logger.info("%d epochs are done; raise runner.epochs: %d to go on", first, epochs.stop)
        with (
            self.folder.active(),
            self._own_names(),
            self._visual_writer() as writer,
            logging_redirect_tqdm(loggers=[logging.getLogger()]),
            stop_on_request() as asked,
        ):
            for epoch in epochs:
                inside = start if start is not None and not start.done else None
                self._epoch(epoch, inside, asked, writer)
                start = None

    def _starting_point(self) -> Position | None:
        runner = self.settings.runner
        checkpoint = None
        if self.resume:
            checkpoint = newest(self.save_path)
            if checkpoint is None:
                logger.info("nothing to resume in %s: starting at epoch 0", self.save_path)
        elif runner.last_epoch >= 0:
            checkpoint = self.save_path / str(runner.last_epoch)
        if checkpoint is None:
            shutil.rmtree(self.save_path / INTERRUPTED, ignore_errors=True)
            if newest(self.save_path) is not None:
                logger.info("%s holds an earlier run: its epochs are replaced", self.save_path)
            return None
        load_parameters(checkpoint, self.model)
        position = load_training_state(checkpoint, self.optimizer)
        now = self._run_settings()
        changed = [
            f"{key}: was {position.settings[key]}, is {now[key]}"
            for key in now
            if position.settings[key] != now[key]
        ]
        if position.settings["optimizer"] != now["optimizer"]:
            raise SettingsError(
                f"{checkpoint}: {changed[-1]}, and its state does not fit; to start from the "
                "parameters alone set runner.model_init_path"
            )
        if changed and not position.done:
            raise SettingsError(
                f"{checkpoint}: stands inside epoch {position.epoch}, whose batches would come in "
                f"another order: {'; '.join(changed)}"
            )
        set_random_state(position.random)
        self.step = position.step
        logger.info("resumed from %s", checkpoint)
        return position

    def _run_settings(self) -> dict[str, Any]:
        order = {key: self.config.get(key) for key in ORDER_KEYS}
        return {**order, "optimizer": type(self.optimizer).__name__}

    @contextmanager
    def _visual_writer(self) -> Iterator[Any]:
        if not self.settings.runner.use_visual:
            yield None
            return
        from visualdl import LogWriter

        with LogWriter(str(self.settings.model_dir / "visualDL_log" / "train")) as writer:
            yield writer

    def _epoch(
        self, epoch: int, start: Position | None, asked: threading.Event, writer: Any
    ) -> None:
        interval = self.settings.runner.print_interval
        self.model.train()
        metrics, names = self.contract.create_metrics()
        printed: dict[str, Any] | None = None
        meter, began = Meter(interval), time.perf_counter()
        done = 0
        if start is not None:
            set_random_state(start.epoch_random)
        epoch_random = random_state()
        batches = self.batches(epoch)
        if start is not None:
            done = sum(1 for _ in islice(batches, start.batch))
            set_random_state(start.random)
        bar = tqdm(desc=f"epoch {epoch}", unit="batch", initial=done, disable=None)
        waited = time.perf_counter()
        for batch in batches:
            started = time.perf_counter()
            meter.reader += started - waited
            self.optimizer.clear_grad()
            loss, metrics, printed = self.contract.train_forward(
                self.model, metrics, batch, self.config
            )
            loss.backward()
            self.optimizer.step()
            meter.run += time.perf_counter() - started
            meter.samples += len(batch[0])
            if done % interval == 0:
                values = self._values(metrics, names, printed)
                logger.info("epoch: %d, batch_id: %d, %s%s", epoch, done, _words(values), meter)
                meter = Meter(interval)
                for name, _, value in values if writer is not None else ():
                    writer.add_scalar(tag=f"train/{name}", step=self.step, value=value)
            done += 1
            self.step += 1
            bar.update()
            if asked.is_set():
                bar.close()
                self._stop(epoch, done, epoch_random)
            waited = time.perf_counter()
        bar.close()
        if done == 0:
            raise DataError(
                f"{self.settings.path('train_data_dir')}: gives not one batch of "
                f"runner.train_batch_size: {self.settings.runner.train_batch_size}; lower it"
            )
        words, seconds = _words(self._values(metrics, names, printed)), time.perf_counter() - began
        logger.info("epoch: %d done, %sepoch time: %.2f s", epoch, words, seconds)
        self._save(self.save_path / str(epoch), epoch, 0, epoch_random, done=True)

    def _values(
        self, metrics: list[Any], names: list[str], printed: dict[str, Any] | None
    ) -> list[tuple[str, str, float]]:
        """(name, its text in PaddleRec's format, its number) of everything that is logged."""
        values = []
        for name, metric in zip(names, metrics, strict=False):
            value = metric.accumulate()
            values.append((name, f"{value:.6f}", float(value)))
        for name, tensor in (printed or {}).items():
            array = np.asarray(tensor.numpy() if hasattr(tensor, "numpy") else tensor)
            values.append((name, str(array).strip("[]"), float(array.reshape(-1)[0])))
        return values

    def _stop(self, epoch: int, done: int, epoch_random: dict[str, Any]) -> None:
        self._save(self.save_path / INTERRUPTED, epoch, done, epoch_random, done=False)
        raise Interrupted(
            f"stopped in epoch {epoch} after {done} batches; the same command with --resume goes on"
        )

    def _save(
        self, folder: Path, epoch: int, batch: int, epoch_random: dict[str, Any], *, done: bool
    ) -> None:
        position = Position(
            epoch, batch, self.step, done, random_state(), epoch_random, self._run_settings()
        )
        save_checkpoint(folder, self.model.state_dict(), self.optimizer.state_dict(), position)
        supersede(self.save_path, epoch, done=done)
        logger.info("saved %s", os.path.relpath(folder, self.working_dir))


def train(settings: Settings, *, resume: bool = False) -> None:
    """Train ``settings.model_dir`` as the settings say; ``resume`` goes on where a run stopped."""
    Trainer(settings, ModelFolder(settings.model_dir), resume).run()
