# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""DIN (``models/rank/din``) that corrects the order of a vector model, in numpy alone.

Letters: n candidates, L clicks, E dimensions of an item with its category, H hidden units, F
features, V items.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.ranking.features import ALL_FEATURES, SCORE

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

ITEMS, MEANS, SCALES = "items", "means", "scales"
Network = Mapping[str, FloatArray]
LARGEST = 5.0  # standard deviations of a feature, beyond which it is cut


def tamed(rows: FloatArray) -> FloatArray:
    """Features [n, F] whose large values lie near each other: log(1 + x), signs kept."""
    return np.asarray(np.sign(rows) * np.log1p(np.abs(rows)), np.float32)


def dense_inputs(rows: FloatArray, means: FloatArray, scales: FloatArray) -> FloatArray:
    """[n, 2 F] of ``rows`` [n, F]: standardised, 0 where unknown; then 1 where unknown."""
    unknown = np.isnan(rows)
    values = np.where(unknown, 0.0, (tamed(rows) - means) / scales)
    return np.concatenate([np.clip(values, -LARGEST, LARGEST), unknown], axis=1, dtype=np.float32)


class DinRanker:
    """Scores candidates by ``start`` times the interests' score and the networks' mean logit.

    Each of ``networks`` holds ``items`` [V, E], row 0 without a direction; ``means`` and ``scales``
    [F] of tamed features, empty where they are no inputs; and the network's layers by their names
    in ``rec.pdparams``. Nothing changes after it is made: any thread may use it.
    """

    def __init__(self, networks: Sequence[Network], start: float, features: Sequence[str]) -> None:
        self.networks, self.start, self.features = tuple(networks), start, tuple(features)
        self._columns = [ALL_FEATURES.index(name) for name in self.features]
        self._score = ALL_FEATURES.index(SCORE)

    def scores(self, rows: FloatArray, items: IntArray, history: IntArray) -> FloatArray:
        """[n] for ``rows`` [n, all features] of ``items`` [n], the higher the better.

        ``history`` [L] are the user's clicks, at least one. An item of an id of V or above, which
        came after the ranker, has no direction.
        """
        used = rows[:, self._columns]
        logits = [_logits(one, used, items, history) for one in self.networks]
        scores: FloatArray = np.float32(self.start) * rows[:, self._score] + np.mean(logits, axis=0)
        return scores

    @property
    def parameters(self) -> int:
        """How many numbers it has, those of the item tables included."""
        return sum(array.size for network in self.networks for array in network.values())

    def content(self) -> bytes:
        """All arrays as an npz file, which holds data alone."""
        file = io.BytesIO()
        arrays = {
            f"{number}.{name}": array
            for number, network in enumerate(self.networks)
            for name, array in network.items()
        }
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's own keywords come first
        return file.getvalue()

    @classmethod
    def of_content(
        cls, content: bytes, start: float, features: Sequence[str], item_count: int
    ) -> DinRanker:
        """From :meth:`content`; CheckpointError: it is none, or not for these features or items."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                networks: dict[str, dict[str, FloatArray]] = {}
                for name in file.files:
                    number, _, own = name.partition(".")
                    networks.setdefault(number, {})[own] = np.asarray(file[name], np.float32)
            ranker = cls(list(networks.values()), start, features)
            if counts := {len(network[ITEMS]) for network in ranker.networks} - {item_count}:
                raise ValueError(f"{counts} items, here {item_count}")
            one = np.ones(1, np.int64)
            ranker.scores(np.zeros((1, len(ALL_FEATURES)), np.float32), one, one)
        except Exception as error:  # damaged bytes make zipfile and numpy raise many kinds
            raise CheckpointError(f"the network of a ranker cannot be read: {error!r}") from None
        return ranker


def _logits(network: Network, rows: FloatArray, items: IntArray, history: IntArray) -> FloatArray:
    """[n] for candidates ``items`` [n] with the network's own features ``rows`` [n, F]."""
    table = network[ITEMS]
    clicks, targets = table[history], table[np.where(items < len(table), items, 0)]
    user = _weights(network, clicks, targets) @ clicks
    parts = [user, targets, user * targets]
    if len(network[MEANS]):
        parts.append(dense_inputs(rows, network[MEANS], network[SCALES]))
    first = np.concatenate(parts, axis=1) @ network["mlp.hidden.0.weight"]
    return _after_first(network, "mlp", first + network["mlp.hidden.0.bias"])


def _weights(network: Network, clicks: FloatArray, targets: FloatArray) -> FloatArray:
    """[n, L]: how ``clicks`` [L, E] weigh for ``targets`` [n, E].

    The first layer of (click, target, click - target, click * target) is, for one click, a matrix
    on the target: one product for all pairs.
    """
    weight = network["attention.layers.hidden.0.weight"]
    click, target, difference, product = np.split(weight, 4)  # [E, H]
    of_clicks = clicks @ (click + difference) + network["attention.layers.hidden.0.bias"]
    on_targets = clicks[:, :, None] * product + (target - difference)  # [L, E, H]
    wide = on_targets.transpose(1, 0, 2).reshape(targets.shape[1], -1)  # [E, L H]
    hidden = (targets @ wide).reshape(len(targets), *of_clicks.shape) + of_clicks
    return _after_first(network, "attention.layers", hidden)


def _after_first(network: Network, name: str, hidden: FloatArray) -> FloatArray:
    """[...] of what the first layer of a stack gave, ``hidden`` [..., H]."""
    number = 0
    while (slope := network.get(f"{name}.slopes.{number}._weight")) is not None:
        if number:
            layer = f"{name}.hidden.{number}"
            hidden = hidden @ network[f"{layer}.weight"] + network[f"{layer}.bias"]
        hidden = np.maximum(hidden, 0) + slope * np.minimum(hidden, 0)
        number += 1
    out: FloatArray = hidden @ network[f"{name}.out.weight"] + network[f"{name}.out.bias"]
    return out[..., 0]
