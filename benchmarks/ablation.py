# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What each setting of MIND gives: the recipe with one setting changed, recall on the valid users.

    python benchmarks/ablation.py --data books=datasets/books --data sports=datasets/sports

Each row is one training with one seed, so differences below half a point say little.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from quality_table.data import open_data
from quality_table.models import ZOO
from quality_table.pieces import measurements_in, run_pieces
from quality_table.plan import model_piece
from quality_table.results import RECALL
from tabulate import tabulate

from paddlerec_milvus.command import run
from paddlerec_milvus.config import load_settings

MIND = ZOO / "mind" / "config.yaml"
VARIANTS = {
    "the recipe": "",
    "attention: hard": "attention=hard",
    "attention: soft": "attention=soft",
    "no context": "context=False",
    "no recency": "capsual.recency=False",
    "no context, no recency": "context=False capsual.recency=False",
    "K 1": "capsual.max_k=1",
    "K 8": "capsual.max_k=8",
    "K by length of history": "capsual.dynamic_k=True",
    "1 routing iteration": "capsual.iters=1",
    "random bilinear map": "capsual.map_init=normal capsual.init_std=0.1",
    "routing by position": "capsual.routing_init=position",
    "ReLU layer": "relu_layer=True",
    "raw inner product": "normalize=False temperature=1.0 emb_init_std=0.1",
    "temperature 0.07": "temperature=0.07",
    "temperature 0.15": "temperature=0.15",
    "D 64": "embedding_dim=64 hidden_size=64",
    "embeddings start at 0.1": "emb_init_std=0.1",
    "constant learning rate": "optimizer.schedule=constant",
    "dropout 0.2": "dropout=0.2",
    "next_n 3": "next_n=3",
    "128 negatives": "neg_samples=128",
    "negatives log_uniform": "sampler=log_uniform",
    "negatives by popularity^0.75": "sampler=popularity",
    "and the batch's targets": "batch_negatives=True",
    "hard negatives, 1": "hard_negatives=1.0",
    "routing penalty, 1": "routing_penalty=1.0",
}


def main() -> int:
    """Train and print; exit code 2 for a user's mistake."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", action="append", required=True, metavar="NAME=DIR")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--work", type=Path, default=Path("output_quality"), help="kept for reruns")
    parser.add_argument("-o", "--opt", nargs="*", default=[], help="settings of every row")
    arguments = parser.parse_args()

    def work() -> None:
        folder = arguments.work.resolve()
        logs = [open_data(pair, folder) for pair in arguments.data]
        maxlen = load_settings(MIND, arguments.opt).hyper_parameters["maxlen"]
        pieces = [
            model_piece(log, "mind", MIND, [*arguments.opt, *options_of(changed)], maxlen)
            for changed in VARIANTS.values()
            for log in logs
        ]
        results = iter(measurements_in(run_pieces(pieces, folder, arguments.jobs)))
        rows = [[title, *(100 * next(results).valid.recall for _ in logs)] for title in VARIANTS]
        header = ["", *(f"{log.name} valid {RECALL}" for log in logs)]
        print(tabulate(rows, headers=header, floatfmt=".2f", tablefmt="github"))

    return run(work)


def options_of(changed: str) -> list[str]:
    """``-o`` for one row."""
    return [f"hyper_parameters.{pair}" for pair in changed.split()]


if __name__ == "__main__":
    sys.exit(main())
