# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""DIN as a static graph, for PaddleRec's tools/static_trainer.py."""

from __future__ import annotations

import paddle
from dygraph_model import DygraphModel

# PaddleRec's tools ask for graphs of paddle 2 (FLAGS_enable_pir_api=0), which do not take all that
# layers of paddle 3.3 do; from here on they are those of paddle 3
if hasattr(paddle, "pir_utils"):
    paddle.pir_utils.IrGuard().__enter__()


class StaticModel:
    """What a static trainer calls."""

    def __init__(self, config):
        self.config = config
        self.dygraph_model = DygraphModel()
        self.model = self.cost = None

    def create_feeds(self, is_infer=False):
        """A place for each of the reader's eight parts."""
        length = self.config.get("hyper_parameters.maxlen", 20)
        sequence, single = [-1, length], [-1, 1]
        shapes = {
            "hist_item_seq": sequence,
            "hist_cat_seq": sequence,
            "target_item": single,
            "target_cat": single,
            "label": single,
            "mask": [-1, length, 1],
            "target_item_seq": sequence,
            "target_cat_seq": sequence,
        }
        return [
            paddle.static.data(name, shape, "float32" if name == "label" else "int64")
            for name, shape in shapes.items()
        ]

    def net(self, inputs, is_infer=False):
        """Loss and AUC; of inference the AUC alone."""
        self.model = self.dygraph_model.create_model(self.config)
        if is_infer:
            self.model.eval()
        feeds, label = self.dygraph_model.create_feeds(inputs, self.config)
        logits = self.model(*feeds)
        guess = paddle.nn.functional.sigmoid(logits)
        both = paddle.concat([1 - guess, guess], axis=1)
        auc = paddle.static.auc(input=both, label=label.astype("int64"), slide_steps=0)[0]
        if is_infer:
            return {"auc": auc}
        self.cost = self.dygraph_model.create_loss(logits, label)
        return {"loss": self.cost, "auc": auc}

    def create_optimizer(self, strategy=None):
        """The optimizer of training with dynamic graphs."""
        optimizer = self.dygraph_model.create_optimizer(self.model, self.config)
        if strategy is not None:
            from paddle.distributed import fleet

            optimizer = fleet.distributed_optimizer(optimizer, strategy)
        optimizer.minimize(self.cost)

    def infer_net(self, inputs):
        """The AUC of test rows."""
        return self.net(inputs, is_infer=True)
