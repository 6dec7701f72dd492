# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""SASRec in PaddleRec's contract: its settings, and the network that they describe."""

from __future__ import annotations

import model_settings
import net
from gbce import GeneralisedBCE
from model_settings import AT_LEAST_ONE, UP_TO_ONE
from recall_model import RecallModel

DEFAULTS = {
    **model_settings.DEFAULTS,
    "dropout": 0.2,
    "loss": "softmax",
    "gbce_t": 0.75,
    "blocks": 2,
    "heads": 2,
}
LIMITS = {
    **model_settings.LIMITS,
    "loss": ("softmax", "gbce"),
    "gbce_t": UP_TO_ONE,
    "blocks": AT_LEAST_ONE,
    "heads": AT_LEAST_ONE,
}


class DygraphModel(RecallModel):
    """What a trainer and an evaluator call."""

    defaults = DEFAULTS
    limits = LIMITS

    def conflicts(self, read):
        """Heads share the dimensions, and gBCE is made for uniform negatives of one kind."""
        wrong = []
        if read["embedding_dim"] % max(read["heads"], 1):
            wrong.append(f"heads: {read['heads']} (a divisor of embedding_dim)")
        needed = {"sampler": "uniform", "batch_negatives": False, "hard_negatives": 0.0}
        if read["loss"] == "gbce":
            wrong += [
                f"{name}: {read[name]} (with loss: gbce it is {value})"
                for name, value in needed.items()
                if read[name] != value
            ]
        return wrong

    def create_model(self, config):
        """Build the network; ValueError says which settings cannot be used."""
        s = self.settings_of(config)
        softmax = self.softmax_of(config, s)
        if s["loss"] == "gbce":
            softmax = GeneralisedBCE(
                softmax.sampler, s["neg_samples"], s["temperature"], s["gbce_t"]
            )
        return net.SASRec(
            items=self.items_of(config, s),
            softmax=softmax,
            dropout=s["dropout"],
            maxlen=s["maxlen"],
            blocks=s["blocks"],
            heads=s["heads"],
        )
