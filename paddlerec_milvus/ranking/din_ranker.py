# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""DIN (``models/rank/din``) that corrects the order of a vector model, in numpy alone.

Letters: n candidates, L clicks, E dimensions of an item with its category, H hidden units, F
features, V items, C categories.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.ranking.features import ALL_FEATURES, SCORE

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

ITEMS, CATEGORIES, MEANS, SCALES = "items", "categories", "means", "scales"
ATTENTION, MLP = "attention.layers", "mlp"  # stacks of layers
Network = Mapping[str, FloatArray]
LARGEST = 5.0  # standard deviations of a feature, beyond which it is cut


def tamed(rows: FloatArray) -> FloatArray:
    """Features [n, F] whose large values lie near each other: log(1 + x), signs kept."""
    sizes = np.abs(rows)
    return np.asarray(np.copysign(np.log1p(sizes, out=sizes), rows), np.float32)


def dense_inputs(rows: FloatArray, means: FloatArray, scales: FloatArray) -> FloatArray:
    """[n, 2 F] of ``rows`` [n, F]: standardised, 0 where unknown; then 1 where unknown."""
    values = tamed(rows)
    values -= means
    values /= scales
    unknown = np.isnan(values)
    np.clip(values, -LARGEST, LARGEST, out=values)
    values[unknown] = 0.0
    return np.concatenate([values, unknown], axis=1, dtype=np.float32)


class DinRanker:
    """Scores candidates by ``start`` times the interests' score and the network's logit.

    ``network`` holds ``items`` [V, .], row 0 without a direction; where categories are inputs
    ``categories`` [C + 1, .], row 0 for none; ``means`` and ``scales`` [F] of tamed features, empty
    where they are no inputs; and the layers by their names in ``rec.pdparams``. ``categories`` [V]
    are numbers, -1: none. Nothing changes after it is made: any thread may use it.
    """

    def __init__(
        self, network: Network, start: float, features: Sequence[str], categories: IntArray
    ) -> None:
        self.network = network
        self.start, self.features, self._categories = start, tuple(features), categories
        columns = [ALL_FEATURES.index(name) for name in self.features]
        are_first = columns == list(range(len(columns)))
        self._columns = slice(len(columns)) if are_first else columns  # a view costs nothing
        self._score = ALL_FEATURES.index(SCORE)
        self._pairs = _PairLayer.of(network)
        self._attention = _layers_after_first(network, ATTENTION)
        self._mlp = _layers_after_first(network, MLP)

    def scores(self, rows: FloatArray, items: IntArray, history: IntArray) -> FloatArray:
        """[n] for ``rows`` [n, all features] of ``items`` [n], the higher the better.

        ``history`` [L] are the user's clicks, at least one. An item of an id of V or above, which
        came after the ranker, has no direction.
        """
        network, own = self.network, np.where(items < len(self._categories), items, 0)
        clicks, targets = (_directions(network, self._categories, one) for one in (history, own))
        user = _through(self._attention, self._pairs(clicks, targets)) @ clicks
        parts = np.concatenate([user, targets, user * targets], axis=1)
        weight = network[f"{MLP}.hidden.0.weight"]
        first = parts @ weight[: parts.shape[1]]
        if len(network[MEANS]):
            used = rows[:, self._columns]
            first += dense_inputs(used, network[MEANS], network[SCALES]) @ weight[parts.shape[1] :]
        first += network[f"{MLP}.hidden.0.bias"]
        logits = _through(self._mlp, first)
        return np.asarray(np.float32(self.start) * rows[:, self._score] + logits, np.float32)

    @property
    def parameters(self) -> int:
        """How many numbers it has, those of the item table included."""
        return sum(array.size for array in self.network.values())

    def content(self) -> bytes:
        """All arrays as an npz file, which holds data alone."""
        file = io.BytesIO()
        np.savez(file, **self.network)  # type: ignore[arg-type]  # numpy's own keywords
        return file.getvalue()

    @classmethod
    def of_content(
        cls, content: bytes, start: float, features: Sequence[str], categories: IntArray
    ) -> DinRanker:
        """From :meth:`content`; CheckpointError: it is none, or not for these features or items."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                network = {name: np.asarray(file[name], np.float32) for name in file.files}
            if ITEMS not in network:
                raise ValueError("it has no items: is it of an earlier version?")
            ranker = cls(network, start, features, categories)
            if (count := len(network[ITEMS])) != len(categories):
                raise ValueError(f"{count} items, here {len(categories)}")
            known = network.get(CATEGORIES)
            if known is not None and len(known) < categories.max() + 2:
                raise ValueError(f"fewer categories than the items' {categories.max() + 1}")
            one = np.ones(1, np.int64)
            ranker.scores(np.zeros((1, len(ALL_FEATURES)), np.float32), one, one)
        except Exception as error:  # damaged bytes make zipfile and numpy raise many kinds
            raise CheckpointError(
                f"the network of a ranker cannot be read: {error!r}; train it anew: "
                "python tools/rank.py"
            ) from None
        return ranker


def _directions(network: Network, categories: IntArray, items: IntArray) -> FloatArray:
    """[n, E] of ``items`` [n] with those of their categories; zeros for item 0."""
    rows = network[ITEMS].take(items, axis=0)  # faster than an index
    if (table := network.get(CATEGORIES)) is None:
        return rows
    numbers = np.where(items > 0, categories[items] + 1, 0)
    return np.concatenate([rows, table[numbers]], axis=1)


class _PairLayer(NamedTuple):
    """The first layer of the attention, on (click, target, click - target, click * target)."""

    on_click: FloatArray
    """[E, H]"""
    on_target: FloatArray
    """[E, 1, H]"""
    on_product: FloatArray
    """[E, 1, H]"""
    bias: FloatArray
    """[H]"""

    @classmethod
    def of(cls, network: Network) -> _PairLayer:
        """That of ``network``."""
        weight, bias = (network[f"{ATTENTION}.hidden.0.{part}"] for part in ("weight", "bias"))
        click, target, difference, product = np.split(weight, 4)
        on_target = target - difference
        return cls(click + difference, on_target[:, None], product[:, None], bias)

    def __call__(self, clicks: FloatArray, targets: FloatArray) -> FloatArray:
        """[n, L, H] for ``targets`` [n, E] beside ``clicks`` [L, E].

        For one click it is a matrix on the target: one product for all pairs.
        """
        of_clicks = clicks @ self.on_click + self.bias
        on_targets = clicks.T[:, :, None] * self.on_product  # [E, L, H]
        on_targets += self.on_target
        wide = targets @ on_targets.reshape(targets.shape[1], -1)
        hidden: FloatArray = wide.reshape(len(targets), *of_clicks.shape)
        hidden += of_clicks
        return hidden


class _Layer(NamedTuple):
    """PReLU and the linear layer behind it, as products of x and of |x|.

    PReLU(x) is (1 + slope) / 2 x + (1 - slope) / 2 |x|: faster than by a minimum.
    """

    of_value: FloatArray
    of_size: FloatArray
    bias: FloatArray


def _layers_after_first(network: Network, name: str) -> list[_Layer]:
    """Of the stack ``name``."""
    layers = list[_Layer]()
    while (slope := network.get(f"{name}.slopes.{len(layers)}._weight")) is not None:
        layer = f"{name}.hidden.{len(layers) + 1}"
        if f"{layer}.weight" not in network:
            layer = f"{name}.out"
        weight, bias = network[f"{layer}.weight"], network[f"{layer}.bias"]
        above, below = (np.float32(0.5) * (1 + sign * slope[:, None]) for sign in (1, -1))
        layers.append(_Layer(weight * above, weight * below, bias))
    return layers


def _through(layers: Sequence[_Layer], hidden: FloatArray) -> FloatArray:
    """[...] of what the first layer of a stack gave, ``hidden`` [..., H], which it overwrites."""
    shape = hidden.shape[:-1]
    hidden = hidden.reshape(-1, hidden.shape[-1])  # one product for all
    for layer in layers:
        values = hidden @ layer.of_value
        values += np.abs(hidden, out=hidden) @ layer.of_size
        values += layer.bias
        hidden = values
    return hidden.reshape(shape)
