# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What MIND finds where the truth is planted, and that it finds nothing where there is nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
from small_mind import CONTRACT, FOLDER, Array, build, interests, settings

MAXLEN, BATCH = 12, 256


def train(clicks: Array, folder: Path, epochs: int, **hyper: Any) -> Any:
    """A MIND trained on ``clicks`` [users, clicks] item ids, as the trainer does."""
    folder.mkdir()
    lines = [f"{u},{item},{t}\n" for u, row in enumerate(clicks) for t, item in enumerate(row)]
    (folder / "part-0").write_text("".join(lines))
    hyper = {
        "item_count": int(clicks.max()) + 1,
        "emb_init_std": 0.005,
        "maxlen": MAXLEN,
        "sampler": "all",
        "optimizer.learning_rate": 0.02,
        **hyper,
    }
    config = settings(**hyper) | {"runner.seed": 1}
    model = build(**hyper)
    optimizer = CONTRACT.create_optimizer(model, config)
    reader = FOLDER.reader("mind_reader", [folder / "part-0"], config)
    model.train()
    steps, step = epochs * reader.count_batches(BATCH), 0  # type: ignore[attr-defined]
    for _ in range(epochs):
        for batch in reader.iter_batches(BATCH):  # type: ignore[attr-defined]
            optimizer.set_lr(CONTRACT.learning_rate(config, step / steps))
            loss, _, _ = CONTRACT.train_forward(model, [], batch, config)
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            step += 1
    return model


def best_items(model: Any, history: Array, n: int) -> Array:
    """The ``n`` items [users, n] nearest to one of a user's interests."""
    lengths = np.full((len(history), 1), MAXLEN)
    with paddle.no_grad():
        vectors = interests(model, history[:, -MAXLEN:], lengths)
        items = CONTRACT.item_vectors(model).numpy()[1:]
    scores = (vectors @ items.T).max(axis=1)
    return np.argsort(-scores, axis=1, kind="stable")[:, :n] + 1


def planted_log(
    users: int, clicks: int, clusters: int, of_user: int, size: int, seed: int
) -> tuple[Array, Array]:
    """Clicks [users, clicks], each from one of the user's clusters [users, of_user] at random."""
    rng = np.random.default_rng(seed)
    own = np.stack([rng.choice(clusters, of_user, replace=False) for _ in range(users)])
    cluster = own[np.arange(users)[:, None], rng.integers(of_user, size=(users, clicks))]
    return 1 + cluster * size + rng.integers(size, size=cluster.shape), own


class TestPlantedInterests:
    """12 groups of 5 items; a user clicks in two of them, any two, at random.

    Vectors have 3 dimensions: half a sphere around one vector cannot hold just any two of 12
    directions, two vectors can. By chance a list of 10 has 2 / 12 of the user's own items.
    """

    clusters, of_user, size = 12, 2, 5

    def recall(self, folder: Path, max_k: int) -> float:
        shape = (self.clusters, self.of_user, self.size)
        log, _ = planted_log(1000, 16, *shape, seed=0)
        hyper = {"embedding_dim": 3, "hidden_size": 3, "capsual.max_k": max_k}
        model = train(log, folder / "log", epochs=8, **hyper)
        histories, own = planted_log(400, MAXLEN, *shape, seed=1)
        found = (best_items(model, histories, self.of_user * self.size) - 1) // self.size
        return float((found[:, :, None] == own[:, None, :]).any(axis=2).mean())

    def test_mind_finds_both(self, tmp_path: Path) -> None:
        assert self.recall(tmp_path, max_k=4) > 0.88

    def test_a_single_vector_does_not(self, tmp_path: Path) -> None:
        assert 0.3 < self.recall(tmp_path, max_k=1) < 0.7


def test_on_a_shuffled_log_nothing_beats_popularity(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    popularity = 1 / np.arange(1, 61)  # Zipf's law
    clicks = rng.choice(60, size=(1400, 17), p=popularity / popularity.sum()) + 1
    log, histories, truths = clicks[:1000], clicks[1000:, :MAXLEN], clicks[1000:, MAXLEN:]
    model = train(log, tmp_path / "log", epochs=3)
    popular = np.argsort(-np.bincount(log.ravel(), minlength=61)[1:], kind="stable")[:10] + 1

    def recall(lists: Array) -> Array:
        """Share of each user's truths, repeated ones counted, in ``lists`` [users or 1, 10]."""
        return np.asarray((truths[:, :, None] == lists[:, None, :]).any(axis=2).mean(axis=1))

    ours, theirs = recall(best_items(model, histories, 10)), recall(popular[None])
    gain = ours - theirs
    assert gain.mean() < 3 * gain.std() / np.sqrt(len(gain))
    assert ours.mean() > 10 / 60 + 0.1  # it did learn what is popular
