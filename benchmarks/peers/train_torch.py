# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Trains the PyTorch network on batches of our reader, with log lines in the trainers' shape.

python benchmarks/peers/train_torch.py -m mind/config.yaml -o runner.batches_per_epoch=500
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

import torch

from paddlerec_milvus.command import model_parser, read_settings, run
from paddlerec_milvus.data.files import data_files
from paddlerec_milvus.progress import Meter
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.training.batches import open_batches
from paddlerec_milvus.zoo import ModelFolder

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from peers.mind_torch import MIND, optimizers

logger = logging.getLogger("paddlerec_milvus.peers.torch")


def train(settings: Settings) -> None:
    """One epoch of the reader's batches, [hist_item, target_item, seq_len]."""
    config, runner = settings.dotted(), settings.runner
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(runner.seed)
    files = data_files(settings.path("train_data_dir"), "runner.train_data_dir")
    reader = ModelFolder(settings.model_dir).reader(runner.train_reader_path, files, config)
    model = MIND(config)
    steppers = optimizers(model, config["hyper_parameters.optimizer.learning_rate"])
    meter, waited = Meter(runner.print_interval), time.perf_counter()
    for number, batch in enumerate(open_batches(reader, runner.train_batch_size, 0)(0)):
        started = time.perf_counter()
        meter.reader += started - waited
        for stepper in steppers:
            stepper.zero_grad()
        history, labels, lengths = (torch.from_numpy(part) for part in batch)
        loss = model(history, lengths, labels)
        loss.backward()
        for stepper in steppers:
            stepper.step()
        meter.run += time.perf_counter() - started
        meter.samples += len(labels)
        if number % runner.print_interval == 0:
            logger.info("epoch: 0, batch_id: %d, loss:%.6f, %s", number, loss.item(), meter)
            meter = Meter(runner.print_interval)
        waited = time.perf_counter()


if __name__ == "__main__":
    arguments = model_parser(__doc__, "").parse_args()
    sys.exit(run(lambda: train(read_settings(arguments))))
