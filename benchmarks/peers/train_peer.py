# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Trains somebody else's model for some batches, with log lines in the trainers' shape.

python benchmarks/peers/train_peer.py INPUT.npz '{"model_type": "REMI", …}' [CHECKOUT] \\
    -o runner.train_batch_size=128 runner.batches_per_epoch=500 runner.print_interval=50 …

The model of sasrec_rectools.py, or with a CHECKOUT of remi_torch.py. INPUT holds the training
clicks. Their reading is part of a step.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from peers.in_parts import Trained


def main() -> int:
    """Train and print."""
    cut = sys.argv.index("-o")
    source, words, *checkout = sys.argv[1:cut]
    options = dict(pair.split("=", 1) for pair in sys.argv[cut + 1 :])
    batch, batches, interval = (
        int(options[f"runner.{key}"])
        for key in ("train_batch_size", "batches_per_epoch", "print_interval")
    )
    settings = json.loads(words) | {"batch_size": batch}
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(settings["seed"])
    data = dict(np.load(source))
    if checkout:
        from peers.remi_torch import RemiModel, open_checkout

        open_checkout(*checkout)
        settings["sampled_n"] = int(options["hyper_parameters.neg_samples"])
        model: Trained = RemiModel(data, settings)
    else:
        from peers.sasrec_rectools import RecToolsSASRec

        warnings.filterwarnings("ignore")
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        model = RecToolsSASRec(data["users"], data["items"], settings)
    for number in range(0, batches, interval):
        began = time.perf_counter()
        model.train(interval)
        step = (time.perf_counter() - began) / interval
        print(
            f"batch_id: {number}, avg_reader_cost: 0.0 sec, avg_batch_cost: {step:.6f} sec",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
