# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""One training step of MIND: forward, backward, optimizer; reading is not in it."""

from __future__ import annotations

from itertools import cycle, islice
from typing import Any

import paddle
import pytest

from paddlerec_milvus.settings import Settings
from paddlerec_milvus.zoo import ModelFolder

BATCHES = 20  # taken in turns


@pytest.mark.benchmark(group="training step")
@pytest.mark.parametrize("batch_size", [128, 512])
def test_step(
    benchmark: Any, settings: Settings, folder: ModelFolder, reader: Any, batch_size: int
) -> None:
    config, contract = settings.dotted(), folder.dygraph_model()
    paddle.seed(settings.runner.seed)
    with folder.active(), paddle.utils.unique_name.guard():
        model = contract.create_model(config)
        optimizer = contract.create_optimizer(model, config)
        model.train()
        reader.set_epoch(0)
        batches = cycle(list(islice(reader.iter_batches(batch_size), BATCHES)))

        def step() -> float:
            optimizer.clear_grad()
            loss, _, _ = contract.train_forward(model, [], next(batches), config)
            loss.backward()
            optimizer.step()
            return float(loss)

        first = step()
        benchmark.extra_info["samples"] = batch_size
        benchmark.extra_info["negatives"] = config["hyper_parameters.neg_samples"]
        assert benchmark(step) < first
