# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Training DIN on lists of candidates, from the vector model's order and its items' directions.

The loss is the paper's, binary cross entropy of each candidate; its negatives are what stood beside
the click, as in serving. A softmax over the list orders held-out lists a little worse.
Letters: B lists of a step, N candidates, L clicks, F features, V items, D dimensions of the vector
model, E those of an item here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import paddle
import paddle.nn.functional as F  # noqa: N812 - paddle's own idiom

from paddlerec_milvus.collate import seed_everything
from paddlerec_milvus.command import warn
from paddlerec_milvus.config import load_settings
from paddlerec_milvus.errors import DataError, TrainingError
from paddlerec_milvus.ranking.din_ranker import (
    CATEGORIES,
    ITEMS,
    MEANS,
    SCALES,
    DinRanker,
    dense_inputs,
    tamed,
)
from paddlerec_milvus.ranking.features import ALL_FEATURES, FEATURES, SCORE
from paddlerec_milvus.ranking.samples import ROUNDS, RankingLists
from paddlerec_milvus.zoo import ModelFolder

logger = logging.getLogger(__name__)

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

YAML = "din/config_ranker.yaml"
LEAST, MOST = 10, 8_000  # lists
HELD_OUT = 500  # lists, a fifth of them at most: so many say whether the network is of use
STANDARD = 500_000  # candidates, about, from which means and standard deviations are taken
SAMPLED = 100  # candidates of a list that a step sees
START = 0.5  # standard deviations of the interests' scores that one point of the start is worth
NEVER = -1e9  # the logit of a place without a candidate
TABLES = {"item_emb.weight": ITEMS, "cat_emb.weight": CATEGORIES}  # in the network, in the ranker


class Batch(NamedTuple):
    """Some candidates of B lists, N of each; places without one have the item 0."""

    rows: IntArray
    """[B, N], of the candidates among all of ``RankingLists``."""
    real: npt.NDArray[np.bool_]
    """[B, N], where there is one."""
    clicks: IntArray
    """[B, L]"""


def fit_din(
    lists: RankingLists,
    vectors: FloatArray,
    categories: IntArray,
    seed: int = 1,
    features: Sequence[str] = FEATURES,
    epochs: int = ROUNDS,
) -> DinRanker:
    """DIN for ``lists``, after the epochs of its yaml, at most ``epochs``.

    The same lists and seed give the same numbers. ``vectors`` [V, D] are the vector model's items,
    ``categories`` [V] numbers, -1: none. Some lists are held out; if the network orders them worse
    than the vector model by a standard error, that is its order as it was. More than ``MOST`` lists
    take longer than they are worth.

    DataError: too few lists. TrainingError: the loss is no number any more.
    """
    count = len(lists.sizes)
    if count < LEAST:
        raise DataError(
            f"{count} lists with a later click among their candidates, at least {LEAST} are needed "
            "to train a ranker: prepare more valid users"
        )
    held, learned = lists.split(0, min(HELD_OUT, count // 5))
    trainer = _Trainer(learned, vectors, categories, seed, features)
    unchanged = trainer.ranker()
    for epoch, loss in enumerate(trainer.losses(epochs)):
        logger.info("epoch %d: loss %.4f", epoch, loss)
        if not math.isfinite(loss):
            raise TrainingError(
                f"{YAML}: epoch {epoch}: the loss is {loss}; lower "
                f"hyper_parameters.optimizer.learning_rate ({trainer.rate}), or look for such "
                "values in the vector model"
            )
    ranker = trainer.ranker()
    before, after = (list_ndcg(one, held) for one in (unchanged, ranker))
    error = float(np.std(after - before) / math.sqrt(len(before)))
    gain = float(np.mean(after - before))
    logger.info("ndcg of lists held out: %.4f, %+.4f ± %.4f", np.mean(after), gain, error)
    if gain + error > 0:
        return ranker
    warn(
        f"DIN orders {len(before)} lists held out no better than the vector model (ndcg "
        f"{gain:+.4f} ± {error:.4f}): the ranker keeps the vector model's order; "
        "more valid users, or --ranker trees, may do better"
    )
    return unchanged


class _Trainer:
    """The network, its optimizer, and what it is fed from ``lists``."""

    def __init__(
        self,
        lists: RankingLists,
        vectors: FloatArray,
        categories: IntArray,
        seed: int,
        features: Sequence[str],
    ) -> None:
        settings = load_settings(YAML)
        self.lists, self.features, self.rng = lists, tuple(features), np.random.default_rng(seed)
        self.epochs, self.batch_size = settings.runner.epochs, settings.runner.train_batch_size
        self.categories = categories + 1
        self.scores = lists.rows[:, FEATURES.index(SCORE)]
        self.start = START / (float(np.std(self.scores)) or 1.0)
        drawn = np.minimum(lists.sizes, SAMPLED).sum()
        # makes the mean logit that of the share of clicks; the order is the same without it
        self.prior = float(
            np.log(lists.labels.sum() / drawn) - self.start * self.scores.mean(dtype=np.float64)
        )
        some = lists.rows[:: max(1, len(lists.rows) // STANDARD)]
        used = tamed(some[:, [ALL_FEATURES.index(name) for name in features]])
        config = settings.dotted()
        if not config["hyper_parameters.dense_features"]:
            used = used[:, :0]
        self.means, self.scales = _standards(used)
        self.dense = used.shape[1] > 0
        config |= {
            "hyper_parameters.item_count": len(vectors),
            "hyper_parameters.cat_count": int(self.categories.max()) + 1,
            "hyper_parameters.item_emb_size": min(
                vectors.shape[1], config["hyper_parameters.item_emb_size"]
            ),
            "hyper_parameters.dense_features": 2 * used.shape[1],
        }
        if not self.categories.any():
            config["hyper_parameters.cat_emb_size"] = 0
        folder = ModelFolder(settings.model_dir)
        contract: Any = folder.dygraph_model()
        seed_everything(seed)
        with folder.active(), folder.settings_errors(), paddle.utils.unique_name.guard():
            self.network = contract.create_model(config)
            table = self.network.item_emb.weight
            table.set_value(directions(vectors, table.shape[1]))
            self.optimizer = contract.create_optimizer(self.network, config)
        self.rate = float(self.optimizer.get_lr())

    def losses(self, most: int) -> Iterator[float]:
        """Learn for the yaml's epochs, ``most`` at most; the mean loss of each, when it has ended.

        The learning rate falls to nothing: of one that stays it is chance which epoch is good.
        """
        epochs = min(self.epochs, most)
        for epoch in range(epochs):
            self.optimizer.set_lr(self.rate * (1 - epoch / epochs))
            yield self.epoch()

    def epoch(self) -> float:
        """One step for each batch of all lists; the mean loss."""
        self.network.train()
        losses = []
        for batch in self._batches():
            labels = self.lists.labels[batch.rows] * batch.real
            loss = candidate_loss(self._logits(batch) + self.prior, labels, batch.real)
            loss.backward()
            self.optimizer.step()
            self.optimizer.clear_grad()
            losses.append(float(loss))
        return float(np.mean(losses))

    def ranker(self) -> DinRanker:
        """The network as it is now."""
        state = {name: value.numpy() for name, value in self.network.state_dict().items()}
        arrays = {TABLES.get(name, name): array for name, array in state.items()}
        for name in TABLES.values():
            if name in arrays:
                arrays[name][0] = 0  # as padding is in the network
        arrays |= {MEANS: self.means, SCALES: self.scales}
        return DinRanker(arrays, self.start, self.features, self.categories - 1)

    def _batches(self) -> Iterator[Batch]:
        """All lists in an order of their own; of each the clicked candidates, and others drawn."""
        sizes, ends = self.lists.sizes, np.cumsum(self.lists.sizes)
        order = self.rng.permutation(len(sizes))
        for first in range(0, len(order), self.batch_size):
            part = order[first : first + self.batch_size].tolist()
            chosen = [self._drawn(int(ends[one] - sizes[one]), int(ends[one])) for one in part]
            longest = max(map(len, chosen))
            rows = np.zeros((len(part), longest), np.int64)
            real = np.zeros((len(part), longest), np.bool_)
            for place, own in enumerate(chosen):
                rows[place, : len(own)], real[place, : len(own)] = own, True
            yield Batch(rows, real, self.lists.clicks[part])

    def _drawn(self, begin: int, end: int) -> IntArray:
        labels = self.lists.labels[begin:end]
        clicked, others = np.flatnonzero(labels), np.flatnonzero(labels == 0)
        if len(others) > SAMPLED:
            others = self.rng.choice(others, SAMPLED, replace=False)
        return begin + np.concatenate([clicked, others])

    def _logits(self, batch: Batch) -> Any:
        """[B, N], of places without a candidate very low."""
        items = self.lists.items[batch.rows]
        ids = [batch.clicks, self.categories[batch.clicks], (batch.clicks > 0).astype("float32")]
        inputs = [*ids, np.where(items < len(self.categories), items, 0)]
        inputs.append(self.categories[inputs[-1]])
        if self.dense:
            columns = [ALL_FEATURES.index(name) for name in self.features]
            rows = self.lists.rows[batch.rows.ravel()][:, columns]
            dense = dense_inputs(rows, self.means, self.scales)
            inputs.append(dense.reshape(*batch.rows.shape, -1))
        start = np.where(batch.real, self.start * self.scores[batch.rows], NEVER)
        return self.network(*map(paddle.to_tensor, inputs)) + paddle.to_tensor(
            start.astype("float32")
        )


def candidate_loss(logits: Any, labels: FloatArray, real: npt.NDArray[np.bool_]) -> Any:
    """Mean binary cross entropy of ``logits`` and clicks ``labels`` where ``real``; all [B, N]."""
    target = paddle.to_tensor(labels.astype("float32"))
    losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return paddle.sum(losses * paddle.to_tensor(real.astype("float32"))) / int(real.sum())


def list_ndcg(ranker: DinRanker, lists: RankingLists) -> npt.NDArray[np.float64]:
    """[g], ndcg of each whole list in the order of ``ranker``, equal scores in the order of rows.

    That of ten items a list depends more on chance.
    """
    ends, values = np.cumsum(lists.sizes)[:-1], []
    by_list = (np.split(array, ends) for array in (lists.rows, lists.items, lists.labels))
    for rows, items, labels, clicks in zip(*by_list, lists.clicks, strict=True):
        scores = ranker.scores(rows, items, clicks[clicks > 0])
        gains = 1 / np.log2(np.arange(2, len(labels) + 2))
        reached = gains @ labels[np.argsort(-scores, kind="stable")]
        values.append(reached / (gains @ np.sort(labels)[::-1]))
    return np.array(values)


def directions(vectors: FloatArray, size: int) -> FloatArray:
    """``vectors`` [V, D] in the ``size`` directions that say most of their inner products.

    Their mean length is 1; row 0, padding, is zero.
    """
    rows = vectors.astype(np.float64)
    rows[0] = 0
    _, axes = np.linalg.eigh(rows.T @ rows)  # by rising eigenvalue
    flat = rows @ axes[:, ::-1][:, :size]
    length = float(np.linalg.norm(flat[1:], axis=1).mean()) or 1.0
    return np.asarray(flat / length, np.float32)


def _standards(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Means and standard deviations [F] of what is known of ``values`` [n, F]; 0 and 1 of none."""
    known = ~np.isnan(values)
    count = np.maximum(known.sum(axis=0), 1)
    means = np.where(known, values, 0).sum(axis=0, dtype=np.float64) / count
    squares = np.where(known, values - means, 0) ** 2
    scales = np.sqrt(squares.sum(axis=0) / count)
    return means.astype(np.float32), np.where(scales > 1e-6, scales, 1).astype(np.float32)
