# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""MIND's settings: what is refused and in which words, and the learning rate."""

from __future__ import annotations

from typing import Any

import pytest
from small_mind import CONTRACT, build, settings


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("item_count", 1, "largest item id + 1, at least 2"),
        ("item_count", "30", "expected int"),
        ("embedding_dim", 0, "at least 1"),
        ("hidden_size", 16, "equals embedding_dim: 8"),
        ("emb_init_std", 0.0, "above 0"),
        ("maxlen", 0, "at least 1"),
        ("maxlen", 2.5, "expected int"),
        ("neg_samples", 0, "at least 1"),
        ("neg_samples", True, "expected int"),
        ("pow_p", -1.0, "above 0"),
        ("temperature", 0.0, "above 0"),
        ("temperature", float("nan"), "above 0"),
        ("temperature", float("inf"), "above 0"),
        ("temperature", "0.1", "expected float"),
        ("dropout", 1.0, "from 0 to below 1"),
        ("dropout", -0.1, "from 0 to below 1"),
        ("normalize", 1, "expected bool"),
        ("relu_layer", "False", "expected bool"),
        ("attention", "softest", "one of max, hard, soft"),
        ("sampler", "zipf", "one of uniform, log_uniform, popularity, all"),
        ("sampler_power", -0.5, "from 0"),
        ("batch_negatives", "yes", "expected bool"),
        ("hard_negatives", -1.0, "from 0"),
        ("hard_negatives", float("inf"), "from 0"),
        ("routing_penalty", -1.0, "from 0"),
        ("context", 1, "expected bool"),
        ("item_features", "category", "expected bool"),
        ("user_features", 1, "expected bool"),
        ("capsual.dynamic_k", 4, "expected bool"),
        ("capsual.iters", 0, "at least 1"),
        ("capsual.max_k", 0, "at least 1"),
        ("capsual.init_std", -1, "above 0"),
        ("capsual.routing_init", "random", "one of item, position"),
        ("capsual.map_init", "eye", "one of identity, normal"),
        ("optimizer.class", "adam", "one of Adam, SGD"),
        ("optimizer.class", "AdamW", "one of Adam, SGD"),  # has no kernel for sparse gradients
        ("optimizer.schedule", "linear", "one of constant, cosine"),
        ("optimizer.warmup", 1.0, "from 0 to below 1"),
        ("optimizer.learning_rate", 0, "above 0"),
        ("optimizer.learning_rate", "1e-3", "expected float"),
    ],
)
def test_a_bad_hyper_parameter_is_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match="hyper_parameters") as raised:
        build(**{name: value})
    assert f"hyper_parameters.{name}: " in str(raised.value)
    assert message in str(raised.value)


def test_bad_hyper_parameters_are_named_together() -> None:
    with pytest.raises(ValueError, match=r"hyper_parameters\.maxlen: 0.*hyper_parameters\.dropout"):
        build(maxlen=0, dropout=2.0)


def test_negatives_above_the_catalogue_name_the_way_out() -> None:
    def optimizer(**hyper: Any) -> None:
        CONTRACT.create_optimizer(build(**hyper), settings(**hyper))

    with pytest.raises(ValueError, match=r"neg_samples: 30 \(there are 29 items; .*sampler: all"):
        optimizer(neg_samples=30)
    optimizer(neg_samples=29)
    optimizer(neg_samples=30, sampler="all")  # which draws none
    build(neg_samples=30)  # evaluation draws none either


class TestLearningRate:
    def rates(self, *places: float, **hyper: Any) -> list[float]:
        config = settings(**{"optimizer.learning_rate": 0.1, **hyper})
        return [CONTRACT.learning_rate(config, place) for place in places]

    def test_constant(self) -> None:
        hyper = {"optimizer.schedule": "constant"}
        assert self.rates(0.0, 0.3, 1.0, **hyper) == [0.1, 0.1, 0.1]

    def test_cosine(self) -> None:
        # 0.1 (1 + cos(pi p)) / 2 and a thousandth of 0.1: cos of 0, pi/3, pi/2, pi
        rates = self.rates(0.0, 1 / 3, 0.5, 1.0)
        assert rates == pytest.approx([0.1001, 0.0751, 0.0501, 0.0001])

    @pytest.mark.parametrize("schedule", ["constant", "cosine"])
    def test_warmup(self, schedule: str) -> None:
        hyper = {"optimizer.warmup": 0.199, "optimizer.schedule": schedule}
        # (0 + 0.001) / 0.2 and (0.099 + 0.001) / 0.2 of the rate, then the schedule's start
        rates = self.rates(0.0, 0.099, 0.199, 0.5995, 1.0, **hyper)
        ends = [0.1, 0.1, 0.1] if schedule == "constant" else [0.1001, 0.0501, 0.0001]
        assert rates == pytest.approx([0.0005, 0.05, *ends])

    def test_the_defaults_are_the_yamls(self) -> None:
        assert CONTRACT.learning_rate({}, 0.0) == pytest.approx(0.002 * 1.001)
