# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""YouTubeDNN in PaddleRec's contract: its settings, and the network that they describe."""

from __future__ import annotations

import model_settings
import net
from model_settings import AT_LEAST_ONE, FROM_ZERO
from recall_model import RecallModel

DEFAULTS = {**model_settings.DEFAULTS, "layers": 0, "hidden_size": 128}
LIMITS = {**model_settings.LIMITS, "layers": FROM_ZERO, "hidden_size": AT_LEAST_ONE}


class DygraphModel(RecallModel):
    """What a trainer and an evaluator call."""

    defaults = DEFAULTS
    limits = LIMITS

    def create_model(self, config):
        """Build the network; ValueError says which settings cannot be used."""
        s = self.settings_of(config)
        return net.YouTubeDNN(
            items=self.items_of(config, s),
            softmax=self.softmax_of(config, s),
            dropout=s["dropout"],
            layers=s["layers"],
            hidden_size=s["hidden_size"],
        )
