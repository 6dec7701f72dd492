# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""ComiRec-DR in PaddleRec's contract: its settings, and the network that they describe."""

from __future__ import annotations

import multi_interest_settings
import net
from model_settings import AT_LEAST_ONE
from recall_model import RecallModel

DEFAULTS = {**multi_interest_settings.DEFAULTS, "iters": 3, "map_init": "identity"}
LIMITS = {
    **multi_interest_settings.LIMITS,
    "iters": AT_LEAST_ONE,
    "map_init": ("identity", "normal"),
}


class DygraphModel(RecallModel):
    """What a trainer and an evaluator call."""

    defaults = DEFAULTS
    limits = LIMITS

    def create_model(self, config):
        """Build the network; ValueError says which settings cannot be used."""
        s = self.settings_of(config)
        return net.ComiRecDR(
            items=self.items_of(config, s),
            softmax=self.softmax_of(config, s),
            dropout=s["dropout"],
            attention=s["attention"],
            routing_penalty=s["routing_penalty"],
            maxlen=s["maxlen"],
            max_k=s["max_k"],
            iters=s["iters"],
            map_init=s["map_init"],
        )
