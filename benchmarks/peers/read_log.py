# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Only reads: an epoch of batches at each size, nothing trained; prints JSON.

python benchmarks/peers/read_log.py -m mind/config.yaml --batches 128 1024
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterable
from typing import Any

import psutil

from paddlerec_milvus.command import model_parser, read_settings, run
from paddlerec_milvus.data.files import data_files
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.training.batches import open_batches
from paddlerec_milvus.zoo import ModelFolder


def read(settings: Settings, sizes: Iterable[int]) -> dict[str, Any]:
    """Seconds from the process's start to the first batch, seconds a batch, and peak memory."""
    runner = settings.runner
    report: dict[str, Any] = {"seconds_a_batch": {}, "batches": {}}
    files = data_files(settings.path("train_data_dir"), "runner.train_data_dir")
    folder = ModelFolder(settings.model_dir)
    dataset = folder.reader(runner.train_reader_path, files, settings.dotted())
    for size in sizes:
        batches = open_batches(dataset, size, 0)(0)
        began = time.perf_counter()
        next(batches)
        if "start" not in report:
            report["start"] = time.time() - psutil.Process().create_time()
        count = 1 + sum(1 for _ in batches)
        report["batches"][size] = count
        report["seconds_a_batch"][size] = (time.perf_counter() - began) / count
    report["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return report


if __name__ == "__main__":
    parser = model_parser(__doc__, "")
    parser.add_argument("--batches", nargs="+", type=int, required=True, help="batch sizes")
    arguments = parser.parse_args()
    sys.exit(run(lambda: print(json.dumps(read(read_settings(arguments), arguments.batches)))))
