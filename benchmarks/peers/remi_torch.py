# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Trains a model of REMI's authors for some minutes and writes its lists.

python benchmarks/peers/remi_torch.py INPUT.npz OUT.npz '{"model_type": "REMI", …}' CHECKOUT

CHECKOUT is one of https://github.com/Tokkiu/REMI; its models (ComiRec-SA, ComiRec-DR, REMI,
GRU4Rec, DNN), sampled loss and penalties are called from here. In two things this helps it: batches
are drawn as its reader draws them (other users at random, a random target from the fifth click on),
but without the matrices of times that these models never look at; and it runs without a GPU, which
its loss asks for. Needs PyTorch and nothing of this project.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from peers.in_parts import train_in_parts

FIRST_TARGET = 4  # of its reader: place of a user's first click that may be a target
USERS = 512  # listed at a time


def padded(rows: np.ndarray, length: int) -> np.ndarray:
    """The last ``length`` clicks of ``rows`` [U, L] (0 padding on the right), the same way."""
    counts = (rows != 0).sum(axis=1)
    places = np.maximum(counts - length, 0)[:, None] + np.arange(length)
    taken = np.take_along_axis(rows, np.minimum(places, rows.shape[1] - 1), axis=1)
    return np.where(places < counts[:, None], taken, 0)


class RemiModel:
    """A model of the checkout under training."""

    def __init__(self, data: Any, settings: dict[str, Any]) -> None:
        utils = import_module("utils")  # of the checkout

        words = [f"--{key}={settings[key]}" for key in ("sampled_n", "rbeta", "rlambda")]
        self._arguments = utils.get_parser().parse_args(words)
        self._settings = settings
        self._items = data["items"]
        starts = np.flatnonzero(np.diff(data["users"], prepend=data["users"][0] - 1))
        lengths = np.diff([*starts, len(self._items)])
        enough = lengths > FIRST_TARGET
        self._starts, self._lengths = starts[enough], lengths[enough]
        self.network = utils.get_model(
            "",
            settings["model_type"],
            settings["item_count"],
            settings["batch_size"],
            settings["hidden_size"],
            settings["interest_num"],
            settings["maxlen"],
            args=self._arguments,
            device="cpu",
        )
        self.network.set_device("cpu")
        self.network.set_sampler(self._arguments, device="cpu")
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=settings["lr"])
        self._random = np.random.default_rng(settings["seed"])
        samples = int((self._lengths - FIRST_TARGET).sum())
        self.whole_epoch = -(-samples // settings["batch_size"])

    def _batch(self) -> tuple[np.ndarray, np.ndarray]:
        """Histories [B, maxlen] and targets [B] of B users."""
        size = min(self._settings["batch_size"], len(self._starts))
        users = self._random.choice(len(self._starts), size, replace=False)
        starts = self._starts[users]
        targets = starts + self._random.integers(FIRST_TARGET, self._lengths[users])
        first = np.maximum(targets - self._settings["maxlen"], starts)
        places = first[:, None] + np.arange(self._settings["maxlen"])
        known = places < targets[:, None]
        histories = np.where(known, self._items[np.minimum(places, len(self._items) - 1)], 0)
        return histories, self._items[targets]

    def train(self, batches: int) -> None:
        """Go on for so many batches."""
        self.network.train()
        for _ in range(batches):
            histories, targets = map(torch.from_numpy, self._batch())
            self._optimizer.zero_grad()
            outputs = self.network(histories, targets, (histories > 0).long(), None, "cpu")
            self._loss(outputs, targets).backward()
            self._optimizer.step()

    def _loss(self, outputs: Any, targets: torch.Tensor) -> Any:
        """From what a model returns, which differs by model."""
        penalty: Any = 0.0
        match self._settings["model_type"]:
            case "ComiRec-SA" | "REMI" as model:
                _, _, attention, readout, _ = outputs
                if model == "REMI":
                    penalty = self.network.calculate_atten_loss(attention)
            case "ComiRec-DR":
                _, _, readout = outputs
            case _:
                readout, _ = outputs
        loss = self.network.calculate_sampled_loss(readout, targets, None, None)
        return loss + self._settings["rlambda"] * penalty

    def lists(self, histories: np.ndarray, *, unseen: bool = False) -> np.ndarray:
        """Lists [U, top_n] int64 by the best interest; without ``histories`` if ``unseen``."""
        self.network.eval()
        with torch.no_grad():
            return self._lists(histories, unseen)

    def _lists(self, histories: np.ndarray, unseen: bool) -> np.ndarray:
        table, lists = self.network.output_items(), []
        for start in range(0, len(histories), USERS):
            rows = histories[start : start + USERS]
            last = torch.from_numpy(padded(rows, self._settings["maxlen"]))
            vectors, _ = self.network(last, None, (last > 0).long(), None, "cpu", train=False)
            scores = (vectors @ table.T).amax(dim=1)
            if unseen:
                scores.scatter_(1, torch.from_numpy(rows), -torch.inf)
            scores[:, 0] = -torch.inf
            lists.append(scores.topk(self._settings["top_n"], dim=1).indices.numpy())
        return np.concatenate(lists)


def open_checkout(checkout: str) -> None:
    """Make its modules importable, also where there is no GPU."""
    sys.path.insert(0, str(Path(checkout) / "src"))
    if not torch.cuda.is_available():
        torch.Tensor.cuda = lambda tensor, *_, **__: tensor


def main() -> int:
    """Read, train, write; the lists are [U, 50] int64."""
    source, out, words, checkout = sys.argv[1:]
    settings = json.loads(words)
    open_checkout(checkout)
    torch.set_num_threads(1)
    torch.manual_seed(settings["seed"])
    data = dict(np.load(source))
    trained = train_in_parts(lambda: RemiModel(data, settings), data, settings["minutes"])
    about = trained.pop("about") | {
        "dimensions": settings["hidden_size"],
        "versions": {name: version(name) for name in ("torch", "numpy")},
    }
    np.savez(out, about=json.dumps(about), **trained)
    return 0


if __name__ == "__main__":
    sys.exit(main())
