# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""GF-CF in PaddleRec's contract: its settings, the network, and the closed form before training."""

from __future__ import annotations

import model_settings
import net
from click_log import train_clicks
from recall_model import RecallModel

DEFAULTS = {**model_settings.DEFAULTS, "normalize": False}
LIMITS = model_settings.LIMITS


class DygraphModel(RecallModel):
    """What a trainer and an evaluator call."""

    defaults = DEFAULTS
    limits = LIMITS

    def conflicts(self, read):
        """The tables come from clicks alone, in closed form."""
        only = {"item_features": False, "item_start": "random"}
        return [
            f"{key}: {read[key]} ({value}: GF-CF's tables come from the log's spectrum)"
            for key, value in only.items()
            if read[key] != value
        ]

    def create_model(self, config):
        """Build the network; ValueError says which settings cannot be used."""
        s = self.settings_of(config)
        return net.GFCF(
            items=self.items_of(config, s),
            softmax=self.softmax_of(config, s),
            dropout=s["dropout"],
            maxlen=s["maxlen"],
        )

    def create_optimizer(self, dy_model, config):
        """Fill the tables from ``runner.train_data_dir``, and build the optimizer of the rest."""
        optimizer = super().create_optimizer(dy_model, config)
        dy_model.fit(*train_clicks(config))
        return optimizer
