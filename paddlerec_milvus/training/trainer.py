# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The epoch loop: trains any model folder that keeps PaddleRec's contract."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import paddle
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from paddlerec_milvus.checkpoint import load_parameters
from paddlerec_milvus.collate import seed_everything
from paddlerec_milvus.data.files import data_files, reader_files
from paddlerec_milvus.data.prepared import split_words_beside
from paddlerec_milvus.device import use_device
from paddlerec_milvus.errors import DataError, SettingsError
from paddlerec_milvus.progress import Meter, values_of, visual_writer, words
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.training.batches import open_batches, readable
from paddlerec_milvus.training.checkpoint import (
    INTERRUPTED,
    Best,
    Position,
    keep_best,
    load_training_state,
    newest,
    random_state,
    recover,
    save_checkpoint,
    set_random_state,
    supersede,
)
from paddlerec_milvus.training.gradients import Gradients
from paddlerec_milvus.training.processes import Processes, join
from paddlerec_milvus.training.resume import order_settings, require_same_run
from paddlerec_milvus.training.run_folder import RunFolder
from paddlerec_milvus.training.schedule import Schedule, open_schedule
from paddlerec_milvus.training.starting import fixed_tensors, start_from
from paddlerec_milvus.training.stopping import (
    Interrupted,
    nan_is_divergence,
    require_finite_loss,
    require_finite_parameters,
    stop_on_request,
)
from paddlerec_milvus.training.validation import Validation, open_validation
from paddlerec_milvus.zoo import DygraphModel, ModelFolder

logger = logging.getLogger(__name__)


@dataclass
class Trainer:
    """One run over one model folder."""

    settings: Settings
    folder: ModelFolder
    resume: bool = False
    step: int = 0
    working_dir: Path = field(default_factory=Path.cwd)  # the user's, for log lines
    device: str = field(init=False)
    processes: Processes = field(init=False)
    run_folder: RunFolder = field(init=False)
    gradients: Gradients = field(init=False)
    config: dict[str, Any] = field(init=False)
    contract: DygraphModel = field(init=False)
    model: Any = field(init=False)
    optimizer: Any = field(init=False)
    batches: Any = field(init=False)  # called with an epoch number, gives an iterator
    schedule: Schedule | None = field(init=False)
    validation: Validation | None = field(init=False)
    best: Best | None = None  # epoch so far
    saved: Path | None = None  # the last checkpoint of this run
    names: tuple[Any, ...] = ()  # paddle's name counters

    def __post_init__(self) -> None:
        settings = self.settings
        self.device = use_device(settings)
        if settings.runner.use_amp and self.device != "gpu":
            raise SettingsError(
                f"runner.use_amp: True needs a GPU, but training runs on the {self.device}; set "
                "it to False, or runner.use_gpu to True"
            )
        self.processes = join(settings, self.device)
        seed_everything(settings.runner.seed)
        self.config = settings.dotted()
        # a model may read them too, and says less of where they should be
        data_files(settings.path("train_data_dir"), "runner.train_data_dir")
        self._create_model()
        dataset, runner = self._open_reader(), settings.runner
        self.run_folder = RunFolder(settings, self.device, self.processes.world)
        self.save_path = self.run_folder.path
        self.run_folder.require_alike(self.processes.from_leader(lambda: self.run_folder.record))
        if self.processes.leads:
            recover(self.save_path)
        if runner.model_init_path is not None and self.processes.leads:
            self.run_folder.check_start(settings.path("model_init_path"))
        self.batches = open_batches(
            dataset, runner.train_batch_size, runner.num_workers, self.processes, runner.seed
        )
        self.schedule = open_schedule(settings, self.folder, self.contract, self.config, dataset)
        self.validation = open_validation(settings, self.folder, self.contract, self.model)

    def _create_model(self) -> None:
        self.contract = self.folder.dygraph_model()
        starts_from = self.settings.runner.model_init_path
        with self.folder.active(), self.folder.settings_errors(), self._own_names():
            self.model = self.contract.create_model(self.config)
            fixed = {} if starts_from is None else fixed_tensors(self.model)
            self.optimizer = self.contract.create_optimizer(self.model, self.config)
        if not hasattr(self.optimizer, "step"):
            raise SettingsError(
                f"{self.folder.path}: create_optimizer gives a {type(self.optimizer).__name__}, "
                "not one optimizer: this folder needs a trainer of its own"
            )
        if starts_from is not None:
            adapt = getattr(self.contract, "adapt_state_dict", None)
            start_from(self.settings.path("model_init_path"), self.model, adapt, fixed)

    @contextmanager
    def _own_names(self) -> Iterator[None]:
        """Name counters of this run alone: a resume finds accumulators by their names."""
        before = paddle.utils.unique_name.switch(*self.names)
        try:
            yield
        finally:
            self.names = paddle.utils.unique_name.switch(*before)

    def _open_reader(self) -> Any:
        files = reader_files(self.settings.path("train_data_dir"), "runner.train_data_dir")
        return self.folder.reader(self.settings.runner.train_reader_path, files, self.config)

    def run(self) -> None:
        """Train until ``runner.epochs`` or patience ends; Interrupted when asked to stop."""
        self.processes.meet()
        data = self.settings.path("train_data_dir")
        logger.info("training on %s, %s", data, split_words_beside(data))
        start = self._starting_point()
        first = 0 if start is None else start.epoch + int(start.done)
        epochs = range(first, self.settings.runner.epochs)
        if not epochs:
            logger.info("%d epochs are done; raise runner.epochs: %d to go on", first, epochs.stop)
        visual = self.settings.base / "visualDL_log" / "train"
        draws = self.settings.runner.use_visual and self.processes.leads
        with (
            self.folder.active(),
            self._own_names(),
            visual_writer(visual if draws else None) as writer,
            logging_redirect_tqdm(loggers=[logging.getLogger()]),
            stop_on_request(once=self.processes.world > 1) as requested,
        ):
            self.processes.align(self.model.parameters())
            self.gradients = Gradients(self.model, self.optimizer, self.processes, requested)
            for epoch in epochs:
                if self.validation is not None and self.validation.gives_up(epoch, self.best):
                    break
                inside = start if start is not None and not start.done else None
                self._epoch(epoch, inside, self.gradients.stop, writer)
                start = None

    def _starting_point(self) -> Position | None:
        runner = self.settings.runner
        checkpoint = None
        if self.resume:
            checkpoint = self.processes.from_leader(lambda: newest(self.save_path))
            if checkpoint is None:
                logger.info("nothing to resume in %s: starting at epoch 0", self.save_path)
        elif runner.last_epoch >= 0:
            checkpoint = self.save_path / str(runner.last_epoch)
        if checkpoint is None:
            if self.processes.leads:
                self.run_folder.start_anew()
            return None
        if not self.processes.on_one_host:
            self.run_folder.require_here(checkpoint)
        self.run_folder.resume_from(checkpoint)
        load_parameters(checkpoint, self.model)
        position = load_training_state(checkpoint, self.optimizer)
        require_same_run(checkpoint, position, self._run_settings())
        if self.schedule is not None:
            self.schedule.note_stretched(position.settings.get("epochs"))
        set_random_state(position.random)
        self.step, self.saved, self.best = position.step, checkpoint, position.best
        if self.processes.leads:
            keep_best(self.save_path, self.best)
        if self.validation is not None:
            self.best = self.validation.comparable(self.best)
        logger.info("resumed from %s", checkpoint)
        return position

    def _run_settings(self) -> dict[str, Any]:
        return {
            **order_settings(self.config),
            "processes": self.processes.world,
            "optimizer": type(self.optimizer).__name__,
            "epochs": self.settings.runner.epochs,
        }

    def _epoch(
        self, epoch: int, start: Position | None, stop_requested: threading.Event, writer: Any
    ) -> None:
        interval = self.settings.runner.print_interval
        self.model.train()
        metrics, names = self.contract.create_metrics()
        printed: dict[str, Any] | None = None
        meter, began = Meter(interval), time.perf_counter()
        batches, done, epoch_random = self._begin(epoch, start)
        bar = tqdm(desc=f"epoch {epoch}", unit="batch", initial=done, disable=None)
        waited = time.perf_counter()
        for batch in batches:
            started = time.perf_counter()
            meter.reader += started - waited
            metrics, printed = self._step(epoch, done, batch, metrics)
            meter.run += time.perf_counter() - started
            meter.samples += len(batch[0]) * self.processes.world
            if done % interval == 0:
                values = values_of(metrics, names, printed, self.processes.mean)
                logger.info("epoch: %d, batch_id: %d, %s%s", epoch, done, words(values), meter)
                meter = Meter(interval)
                for name, _, value in values if writer is not None else ():
                    writer.add_scalar(tag=f"train/{name}", step=self.step, value=value)
            done += 1
            self.step += 1
            bar.update()
            if stop_requested.is_set():
                bar.close()
                self._stop(epoch, done, epoch_random)
            waited = time.perf_counter()
        bar.close()
        if done == 0:
            raise DataError(
                f"{self.settings.path('train_data_dir')}: gives not one batch of "
                f"runner.train_batch_size: {self.settings.runner.train_batch_size}; lower it"
            )
        line = words(values_of(metrics, names, printed, self.processes.mean))
        seconds = time.perf_counter() - began
        logger.info("epoch: %d done, %sepoch time: %.2f s", epoch, line, seconds)
        self._end(epoch, epoch_random)

    def _begin(
        self, epoch: int, start: Position | None
    ) -> tuple[Iterator[Any], int, dict[str, Any]]:
        """The batches that are left, how many are done, and the random state of the first."""
        if start is not None:
            set_random_state(start.epoch_random)
        elif self.processes.world > 1:  # streams that a resume finds again
            seed_everything(self.processes.seed(self.settings.runner.seed, epoch))
            self.processes.align(self.model.buffers())
        epoch_random = random_state()
        reader = f"{self.settings.runner.train_reader_path} of {self.folder.path.name}"
        place = f"{self.settings.path('train_data_dir')}: the reader {reader}"
        batches, done = readable(self.batches(epoch), place), 0
        if start is not None:
            done = sum(1 for _ in islice(batches, start.batch))
            set_random_state(start.random)
        return batches, done, epoch_random

    def _step(self, epoch: int, done: int, batch: Any, metrics: list[Any]) -> tuple[Any, Any]:
        """One update of the parameters: the metrics, and what the model folder prints."""
        if self.schedule is not None:
            self.optimizer.set_lr(self.schedule.rate(epoch, done))
        self.optimizer.clear_grad()
        place = f"epoch {epoch}, batch {done} (step {self.step})"
        with self._precision(), nan_is_divergence(place, self.config, self.saved):
            loss, metrics, printed = self.contract.train_forward(
                self.model, metrics, batch, self.config
            )
        loss.backward()
        loss = self.gradients.average(loss)
        # on a device a look at the loss waits for all work under way
        if self.device == "cpu" or done % self.settings.runner.print_interval == 0:
            require_finite_loss(loss, place, self.config, self.saved)
        self.optimizer.step()
        self.gradients.stepped()
        return metrics, printed

    def _precision(self) -> AbstractContextManager[None]:
        amp = self.settings.runner.use_amp
        return paddle.amp.auto_cast(dtype="bfloat16") if amp else nullcontext()

    def _end(self, epoch: int, epoch_random: dict[str, Any]) -> None:
        """Measure the model after ``epoch`` and save it; the best so far is kept beside."""
        self._require_finite(epoch)
        self.saved = self.save_path / str(epoch)
        self.best = self.processes.from_leader(lambda: self._keep(epoch, epoch_random))

    def _keep(self, epoch: int, epoch_random: dict[str, Any]) -> Best | None:
        if self.validation is not None:
            self.best = self.validation.better(epoch, self.best)
        self._save(self.save_path / str(epoch), epoch, 0, epoch_random, done=True)
        keep_best(self.save_path, self.best)
        return self.best

    def _stop(self, epoch: int, done: int, epoch_random: dict[str, Any]) -> None:
        if self.processes.world > 1:
            raise Interrupted(
                f"stopped in epoch {epoch}, which several processes do not keep; the same command "
                "with --resume goes on after the last finished epoch"
            )
        self._require_finite(epoch)
        self._save(self.save_path / INTERRUPTED, epoch, done, epoch_random, done=False)
        raise Interrupted(
            f"stopped in epoch {epoch} after {done} batches; the same command with --resume goes on"
        )

    def _require_finite(self, epoch: int) -> None:
        place = f"epoch {epoch}, after step {self.step - 1}"
        require_finite_parameters(self.model, place, self.config, self.saved)

    def _save(
        self, folder: Path, epoch: int, batch: int, epoch_random: dict[str, Any], *, done: bool
    ) -> None:
        position = Position(
            epoch,
            batch,
            self.step,
            done,
            random_state(),
            epoch_random,
            self._run_settings(),
            self.best,
        )
        self.run_folder.make_way()
        states = self.model.state_dict(), self.optimizer.state_dict()
        save_checkpoint(folder, *states, position, self.run_folder.record_of(epoch))
        supersede(self.save_path, epoch, done=done)
        self.saved = folder
        logger.info("saved %s", os.path.relpath(folder, self.working_dir))


def train(settings: Settings, *, resume: bool = False, outdates: Path | None = None) -> None:
    """Train ``settings.model_dir`` as the settings say; ``resume`` goes on where a run stopped.

    ``outdates`` is a file about a run that ended there: it goes when another run saves there.
    """
    trainer = Trainer(settings, ModelFolder(settings.model_dir), resume)
    trainer.run_folder.outdates = outdates
    trainer.run()
