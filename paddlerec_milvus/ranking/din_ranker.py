# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""DIN (``models/rank/din``) that corrects the order of a vector model, in numpy alone.

Letters: n candidates, L clicks, E dimensions of an item with its category, H hidden units, F
features, V items, C categories.
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
BoolArray = npt.NDArray[np.bool_]

ITEMS, CATEGORIES, MEANS, SCALES = "items", "categories", "means", "scales"
Network = Mapping[str, FloatArray]
LARGEST = 5.0  # standard deviations of a feature, beyond which it is cut


def tamed(rows: FloatArray) -> FloatArray:
    """Features [n, F] whose large values lie near each other: log(1 + x), signs kept."""
    return np.asarray(np.sign(rows) * np.log1p(np.abs(rows)), np.float32)


def dense_inputs(rows: FloatArray, means: FloatArray, scales: FloatArray) -> FloatArray:
    """[n, 2 F] of ``rows`` [n, F]: standardised, 0 where unknown; then 1 where unknown."""
    unknown = np.isnan(rows)
    values = _standardised(tamed(rows), unknown, means, scales)
    return np.concatenate([values, unknown], axis=1, dtype=np.float32)


def _standardised(
    values: FloatArray, unknown: BoolArray, means: FloatArray, scales: FloatArray
) -> FloatArray:
    standardised = values - means
    standardised /= scales
    np.copyto(standardised, 0.0, where=unknown)
    return np.clip(standardised, -LARGEST, LARGEST, out=standardised)


class _Inputs:
    """What networks see of a user and candidates, whose features are ``rows``.

    What several networks share is made once for all.
    """

    def __init__(self, rows: FloatArray, items: IntArray, history: IntArray) -> None:
        self._items, self._history = items, history
        self._tamed, self._unknown = tamed(rows), np.isnan(rows)
        self._known: dict[tuple[int, int], tuple[FloatArray, ...]] = {}

    def dense(self, network: Network) -> list[FloatArray | BoolArray]:
        """The parts of :func:`dense_inputs`; none where features are no inputs."""
        means, scales = network[MEANS], network[SCALES]
        if not len(means):
            return []
        return [_standardised(self._tamed, self._unknown, means, scales), self._unknown]

    def directions(self, network: Network, categories: IntArray) -> tuple[FloatArray, ...]:
        """Those of the clicks [L, E] and of the candidates [n, E]."""
        table = network.get(CATEGORIES)
        key = (id(network[ITEMS]), id(table))
        if key not in self._known:
            own = np.where(self._items < len(network[ITEMS]), self._items, 0)
            self._known[key] = tuple(
                _directions(network[ITEMS], table, categories, items)
                for items in (self._history, own)
            )
        return self._known[key]


class DinRanker:
    """Scores candidates by ``start`` times the interests' score and the networks' mean logit.

    Each of ``networks`` holds ``items`` [V, .], row 0 without a direction; where categories are
    inputs ``categories`` [C + 1, .], row 0 for none; ``means`` and ``scales`` [F] of tamed
    features, empty where they are no inputs; and the network's layers by their names in
    ``rec.pdparams``. What is the same in several of them is stored once. ``categories`` [V] are
    numbers, -1: none. Nothing changes after it is made: any thread may use it.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        start: float,
        features: Sequence[str],
        categories: IntArray,
    ) -> None:
        first = networks[0]
        self.networks: tuple[Network, ...] = (
            first,
            *(_shared(network, first) for network in networks[1:]),
        )
        self.start, self.features, self._categories = start, tuple(features), categories
        self._columns = [ALL_FEATURES.index(name) for name in self.features]
        self._score = ALL_FEATURES.index(SCORE)

    def scores(self, rows: FloatArray, items: IntArray, history: IntArray) -> FloatArray:
        """[n] for ``rows`` [n, all features] of ``items`` [n], the higher the better.

        ``history`` [L] are the user's clicks, at least one. An item of an id of V or above, which
        came after the ranker, has no direction.
        """
        used = rows[:, self._columns]
        inputs = _Inputs(used, items, history)
        logits = [self._logits(one, inputs) for one in self.networks]
        scores: FloatArray = np.float32(self.start) * rows[:, self._score] + np.mean(logits, axis=0)
        return scores

    def _logits(self, network: Network, inputs: _Inputs) -> FloatArray:
        """[n] for the candidates of ``inputs``, whose features are the network's own."""
        clicks, targets = inputs.directions(network, self._categories)
        user = _weights(network, clicks, targets) @ clicks
        parts = [user, targets, user * targets, *inputs.dense(network)]
        first = np.concatenate(parts, axis=1, dtype=np.float32) @ network["mlp.hidden.0.weight"]
        first += network["mlp.hidden.0.bias"]
        return _after_first(network, "mlp", first)

    @property
    def parameters(self) -> int:
        """How many numbers it has, those of the item tables included."""
        return sum(array.size for array in self._arrays().values())

    def _arrays(self) -> dict[str, FloatArray]:
        """By the network's number and their name; the first of several that are the same."""
        first = self.networks[0]
        return {
            f"{number}.{name}": array
            for number, network in enumerate(self.networks)
            for name, array in network.items()
            if not number or array is not first.get(name)
        }

    def content(self) -> bytes:
        """All arrays as an npz file, which holds data alone."""
        file = io.BytesIO()
        np.savez(file, **self._arrays())  # type: ignore[arg-type]  # numpy's own keywords
        return file.getvalue()

    @classmethod
    def of_content(
        cls, content: bytes, start: float, features: Sequence[str], categories: IntArray
    ) -> DinRanker:
        """From :meth:`content`; CheckpointError: it is none, or not for these features or items."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                networks: dict[str, dict[str, FloatArray]] = {}
                for name in file.files:
                    number, _, own = name.partition(".")
                    networks.setdefault(number, {})[own] = np.asarray(file[name], np.float32)
            full = [{**networks["0"], **network} for network in networks.values()]
            ranker = cls(full, start, features, categories)
            if counts := {len(network[ITEMS]) for network in full} - {len(categories)}:
                raise ValueError(f"{counts} items, here {len(categories)}")
            tables = [network[CATEGORIES] for network in full if CATEGORIES in network]
            if any(len(table) < categories.max() + 2 for table in tables):
                raise ValueError(f"fewer categories than the items' {categories.max() + 1}")
            one = np.ones(1, np.int64)
            ranker.scores(np.zeros((1, len(ALL_FEATURES)), np.float32), one, one)
        except Exception as error:  # damaged bytes make zipfile and numpy raise many kinds
            raise CheckpointError(f"the network of a ranker cannot be read: {error!r}") from None
        return ranker


def _directions(
    own: FloatArray, table: FloatArray | None, categories: IntArray, items: IntArray
) -> FloatArray:
    """[n, E] of ``items`` [n] with those of their categories in ``table``; zeros for item 0."""
    rows = own.take(items, axis=0)  # faster than own[items]
    if table is None:
        return rows
    numbers = np.where(items > 0, categories[items] + 1, 0)
    return np.concatenate([rows, table[numbers]], axis=1)


def _shared(network: Network, first: Network) -> Network:
    """``network``, whose arrays that equal those of ``first`` are these."""
    return {
        name: first[name] if name in first and np.array_equal(first[name], array) else array
        for name, array in network.items()
    }


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
    hidden = (targets @ wide).reshape(len(targets), *of_clicks.shape)
    hidden += of_clicks
    return _after_first(network, "attention.layers", hidden)


def _after_first(network: Network, name: str, hidden: FloatArray) -> FloatArray:
    """[...] of what the first layer of a stack gave, ``hidden`` [..., H], which it overwrites."""
    shape, number = hidden.shape[:-1], 0
    hidden = hidden.reshape(-1, hidden.shape[-1])  # one product for all
    while (slope := network.get(f"{name}.slopes.{number}._weight")) is not None:
        number += 1
        layer = f"{name}.hidden.{number}"
        if f"{layer}.weight" not in network:
            layer = f"{name}.out"
        weight = network[f"{layer}.weight"]
        # PReLU(x) = (1 + slope) / 2 x + (1 - slope) / 2 |x|: two products cost less than a minimum
        of_value, of_size = (
            np.asarray(weight * half[:, None], np.float32)
            for half in ((1 + slope) / 2, (1 - slope) / 2)
        )
        values = hidden @ of_value
        sizes = np.abs(hidden, out=hidden) @ of_size
        hidden = np.asarray(values + sizes + network[f"{layer}.bias"], np.float32)
    return hidden.reshape(shape)
