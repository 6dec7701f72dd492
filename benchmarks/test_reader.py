# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Reading: an epoch of the sample log, in batches."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.benchmark(group="reader, an epoch")
@pytest.mark.parametrize("batch_size", [128, 1024])
def test_batches_of_an_epoch(benchmark: Any, reader: Any, batch_size: int) -> None:
    def read() -> int:
        reader.set_epoch(0)
        return sum(len(batch[0]) for batch in reader.iter_batches(batch_size))

    benchmark.extra_info["samples"] = len(reader.samples)
    assert benchmark(read) == len(reader.samples)
