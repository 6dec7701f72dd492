# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""SASRec and GRU4Rec: trained at all positions at once, each of which sees the past alone."""

from __future__ import annotations

import importlib
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from small_models import Array, D, L, SmallModel, V, larger_items, some_users

SEQUENCE = ["sasrec", "gru4rec"]
CLICKS = {u: [1 + (7 * u + 3 * t) % 40 for t in range(1 + u % 23)] for u in range(60)}


@pytest.fixture(params=SEQUENCE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def states(model: Any, history: Array) -> Array:
    """The states [B, L, D] in evaluation."""
    model.eval()
    with paddle.no_grad():
        return np.asarray(model.states(model.items(paddle.to_tensor(history))).numpy())


class TestStates:
    def test_a_later_click_changes_no_earlier_state(self, name: str) -> None:
        model = larger_items(SmallModel(name).build())
        history = np.random.default_rng(1).integers(1, V, (4, L))
        before = states(model, history)
        changed = history.copy()
        changed[:, 3] = history[:, 3] % 40 + 1
        after = states(model, changed)
        np.testing.assert_allclose(after[:, :3], before[:, :3], atol=1e-6)
        assert np.abs(after[:, 3:] - before[:, 3:]).max(axis=2).min() > 1e-4  # these all see it

    def test_the_order_of_clicks_matters(self, name: str) -> None:
        small = SmallModel(name)
        model = larger_items(small.build())
        history, lengths = np.array([[3, 9, 27, 5, 0, 0]]), np.array([[4]])
        swapped = np.array([[9, 3, 27, 5, 0, 0]])
        found = [small.user_vectors(model, clicks, lengths) for clicks in (history, swapped)]
        assert np.abs(found[0] - found[1]).max() > 1e-3

    @pytest.mark.parametrize("normalize", [True, False])
    def test_the_loss_is_that_of_each_history_cut_there(self, name: str, normalize: bool) -> None:
        hyper = {"sampler": "all", "dropout": 0.0, "temperature": 0.5, "normalize": normalize}
        small = SmallModel(name, **hyper)
        model = larger_items(small.build())
        history, lengths = some_users()
        targets = np.where(history > 0, history % 40 + 1, 0)
        items = small.contract.item_vectors(model).numpy().astype("float64")
        losses = []
        for row, target, (length,) in zip(history, targets, lengths, strict=True):
            for cut in range(1, length + 1):
                clicks = np.where(np.arange(L) < cut, row, 0)
                user = small.user_vectors(model, clicks[None], np.array([[cut]]))[0, 0]
                scores = items[1:] @ user / 0.5
                losses.append(np.log(np.exp(scores).sum()) - scores[target[cut - 1] - 1])
        loss = float(small.loss(model, [history, targets, lengths]))
        assert loss == pytest.approx(np.mean(losses), rel=1e-4)


class TestReader:
    def reader(self, folder: Path, **options: Any) -> Any:
        lines = [f"{u},{i},{t}\n" for u, items in CLICKS.items() for t, i in enumerate(items)]
        folder.mkdir(exist_ok=True)
        (folder / "part-0").write_text("".join(lines))
        return SmallModel("sasrec", *(f"{k}={v}" for k, v in options.items())).reader(folder)

    def pairs(self, batches: Any) -> Counter[tuple[int, int]]:
        """How often each pair of a click and its next one is trained on."""
        seen = Counter[tuple[int, int]]()
        for history, target, lengths in batches:
            filled = np.arange(L) < lengths
            assert ((history > 0) == filled).all()
            assert ((target > 0) == filled).all()
            assert (history[:, 1:][filled[:, 1:]] == target[:, :-1][filled[:, 1:]]).all()
            seen.update(zip(history[filled].tolist(), target[filled].tolist(), strict=True))
        return seen

    def test_every_click_but_the_first_is_a_target_once(self, tmp_path: Path) -> None:
        expected = Counter(pair for items in CLICKS.values() for pair in itertools.pairwise(items))
        reader = self.reader(tmp_path / "log")
        for _ in range(4):
            assert self.pairs(reader.iter_batches(8)) == expected
        assert sum(1 for _ in reader.iter_batches(8)) == reader.count_batches(8)

    def test_borders_of_windows_differ_by_epoch_and_follow_the_seed(self, tmp_path: Path) -> None:
        def windows(reader: Any) -> set[tuple[int, ...]]:
            return {tuple(row) for batch in reader.iter_batches(8) for row in batch[0].tolist()}

        reader, same = self.reader(tmp_path / "log"), self.reader(tmp_path / "log")
        epochs = [windows(reader) for _ in range(3)]
        assert epochs[0] != epochs[1] != epochs[2]
        same.set_epoch(2)
        assert windows(same) == epochs[2]

    def test_shares_of_processes(self, tmp_path: Path) -> None:
        whole = self.pairs(self.reader(tmp_path / "log").iter_batches(8))
        parts = Counter[tuple[int, int]]()
        for rank in range(2):
            reader = self.reader(tmp_path / "log")
            reader.set_share(rank, 2)
            parts += self.pairs(reader.iter_batches(8))
        assert parts <= whole
        assert whole.total() - parts.total() <= L  # a window that has no fellow

    def test_nothing_to_train_on(self, tmp_path: Path) -> None:
        (tmp_path / "part-0").write_text("1,2,1\n2,3,1\n")
        with pytest.raises(Exception, match="no user has more than 1 click"):
            SmallModel("sasrec").reader(tmp_path)


class TestGeneralisedBCE:
    @pytest.mark.parametrize("t", [0.0, 0.75, 1.0])
    def test_by_numpy(self, t: float) -> None:
        small = SmallModel("sasrec")
        with small.folder.active():
            gbce, negatives = map(importlib.import_module, ("gbce", "negatives"))
        sampler = negatives.NegativeSampler(V, "uniform")
        loss = gbce.GeneralisedBCE(sampler, 10, 0.5, t)
        # a share of 10 / 40 is drawn: beta is 1 - t x 3/4
        assert loss.beta == pytest.approx(1 - 0.75 * t)
        rng = np.random.default_rng(2)
        users, target, drawn = (rng.normal(size=(n, D)) for n in (3, 3, 10))
        labels, ids = np.array([4, 9, 12]), np.arange(1, 11)
        expected = []
        for user, own, label in zip(users, target, labels, strict=True):
            right = 1 / (1 + np.exp(-user @ own / 0.5))
            wrong = 1 / (1 + np.exp(-(drawn @ user)[ids != label] / 0.5))
            expected.append(-np.log(right**loss.beta) - np.log(1 - wrong).sum())
        tensors = [x.astype("float32") for x in (users[:, None], target)]
        given = [*tensors, labels, ids, drawn.astype("float32")]
        found = loss(*(paddle.to_tensor(x) for x in given))
        assert float(found) == pytest.approx(np.mean(expected), rel=1e-4)

    def test_it_is_a_setting_that_trains(self, tmp_path: Path) -> None:
        small = SmallModel("sasrec", loss="gbce", dropout=0.0)
        model = larger_items(small.build())
        history, lengths = some_users()
        targets = np.where(history > 0, history % 40 + 1, 0)
        optimizer = small.contract.create_optimizer(model, small.config)
        losses = []
        for _ in range(20):
            loss = small.loss(model, [history, targets, lengths])
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            losses.append(float(loss))
        assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])

    @pytest.mark.parametrize(
        ("key", "value"),
        [("sampler", "popularity"), ("batch_negatives", True), ("hard_negatives", 1.0)],
    )
    def test_what_does_not_go_with_it(self, key: str, value: Any) -> None:
        small = SmallModel("sasrec", loss="gbce", **{key: value})
        with pytest.raises(ValueError, match=rf"hyper_parameters\.{key}: {value} \(with loss"):
            small.build()


def test_heads_divide_the_dimensions() -> None:
    with pytest.raises(ValueError, match=r"hyper_parameters\.heads: 3 \(a divisor"):
        SmallModel("sasrec", heads=3).build()
