# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The PyTorch network of the speed table is the model's: equal users, losses and updates."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
import yaml
from support import MIND, ROOT

from paddlerec_milvus.collate import seed_everything
from paddlerec_milvus.zoo import ModelFolder

torch = pytest.importorskip("torch")
mind_torch = pytest.importorskip("peers.mind_torch")

SPEED = yaml.safe_load((ROOT / "benchmarks" / "training_speed.yaml").read_text())
# a catalogue so small that labels are among the negatives
SMALL = {"item_count": 41, "embedding_dim": 8, "hidden_size": 8, "maxlen": 6, "neg_samples": 30}
NETWORKS = {
    "hard": {},
    "best_interest": SPEED["best_interest"],
    "raw inner products": {"normalize": False, "temperature": 1.0},
}


def settings(**hyper: Any) -> dict[str, Any]:
    values = {**SPEED["network"], **SMALL, "emb_init_std": 0.5, **hyper}
    return {f"hyper_parameters.{name}": value for name, value in values.items()}


@pytest.fixture(params=NETWORKS)
def both(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """Paddle's network and PyTorch's with the same parameters, none of them a constant."""
    config, folder = settings(**NETWORKS[request.param]), ModelFolder(MIND)
    seed_everything(5)
    with folder.active():
        ours = folder.dygraph_model().create_model(config)
    for parameter in ours.parameters():
        parameter.set_value(parameter + 0.1 * paddle.randn(parameter.shape))
    theirs = mind_torch.MIND(config)
    state = {name: torch.from_numpy(each.numpy()) for name, each in ours.state_dict().items()}
    theirs.load_state_dict(state, strict=True)
    return ours, theirs


def batch(users: int = 16) -> list[np.ndarray]:
    """Histories [B, L] padded on the right, lengths [B, 1], labels [B, 1]."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, SMALL["maxlen"] + 1, (users, 1))
    filled = np.arange(SMALL["maxlen"]) < lengths
    history = np.where(filled, rng.integers(1, SMALL["item_count"], filled.shape), 0)
    return [history, lengths, rng.integers(1, SMALL["item_count"], (users, 1))]


def test_same_users(both):
    ours, theirs = both
    history, lengths, _ = batch()
    ours.eval()
    expected, _ = ours(paddle.to_tensor(history), paddle.to_tensor(lengths))
    found = theirs.interests(torch.from_numpy(history), torch.from_numpy(lengths))
    np.testing.assert_allclose(found.detach().numpy(), expected.numpy(), atol=1e-5)


def test_same_loss_and_update(both):
    ours, theirs = both
    seed_everything(7)
    negatives = ours.negatives.sample(SMALL["neg_samples"]).numpy()
    parts = batch()
    assert np.isin(parts[2], negatives).any()
    ours.train()
    seed_everything(7)  # so that it draws them again
    expected = ours(*map(paddle.to_tensor, parts))
    found = theirs(*map(torch.from_numpy, [*parts, negatives]))
    np.testing.assert_allclose(found.item(), float(expected), rtol=1e-5)

    expected.backward()
    found.backward()
    trained = [each for each in ours.parameters() if each.trainable]
    paddle.optimizer.SGD(1.0, parameters=trained).step()
    torch.optim.SGD(theirs.parameters(), 1.0).step()
    for name, value in ours.state_dict().items():
        other = theirs.state_dict()[name].numpy()
        np.testing.assert_allclose(other, value.numpy(), atol=1e-5, err_msg=name)


def test_a_setting_that_is_not_mirrored_is_refused():
    with pytest.raises(ValueError, match=r"not mirrored in PyTorch: dropout: 0\.3"):
        mind_torch.MIND(settings(dropout=0.3))
