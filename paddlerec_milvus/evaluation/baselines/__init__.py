# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a model must beat, each trained on a click log and asked for the lists of held-out users."""

from paddlerec_milvus.evaluation.baselines.base import Baseline
from paddlerec_milvus.evaluation.baselines.ease import EASE
from paddlerec_milvus.evaluation.baselines.factors import ALS, BPR
from paddlerec_milvus.evaluation.baselines.graph_filter import GFCF
from paddlerec_milvus.evaluation.baselines.neighbours import ItemKNN
from paddlerec_milvus.evaluation.baselines.popular import MostPopular, most_popular
from paddlerec_milvus.evaluation.baselines.transitions import (
    ItemKNNGamma,
    Transitions,
    TransitionsKNN,
)

__all__ = [
    "ALS",
    "BPR",
    "EASE",
    "GFCF",
    "Baseline",
    "ItemKNN",
    "ItemKNNGamma",
    "MostPopular",
    "Transitions",
    "TransitionsKNN",
    "most_popular",
]
