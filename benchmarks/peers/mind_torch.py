# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The network of models/recall/mind in PyTorch: what another framework makes of the same step.

Same settings, same parameters by the same names, same loss; ``tests/benchmarks/test_mind_torch.py``
holds both to each other. Of the settings it knows those that the speed table states; others are
refused. The item table has sparse gradients (SparseAdam), the rest goes to Adam.

Letters: B users, L history, K interests, D dimensions, N negatives, V rows of the item table (row 0
is padding).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

PREFIX = "hyper_parameters."
# settings with one value here; the other values of net.py's are not mirrored
FIXED = {
    "relu_layer": False,
    "sampler": "uniform",
    "batch_negatives": False,
    "hard_negatives": 0.0,
    "routing_penalty": 0.0,
    "dropout": 0.0,
    "item_features": False,
    "user_features": False,
    "capsual.dynamic_k": False,
    "capsual.routing_init": "item",
    "capsual.map_init": "identity",
    "capsual.recency": True,
    "optimizer.class": "Adam",
}


def to_unit(vectors: Tensor) -> Tensor:
    """``vectors`` [..., D] at length 1."""
    return vectors * torch.rsqrt(vectors.square().sum(-1, keepdim=True) + 1e-12)


def squash(z: Tensor) -> Tensor:
    """Each vector of ``z`` [..., D] at a length below 1."""
    squared = z.square().sum(-1, keepdim=True)
    return z * (squared / (1.0 + squared) / torch.sqrt(squared + 1e-9))


class InterestCapsules(nn.Module):
    """Dynamic routing of a history into interests."""

    def __init__(
        self, dim: int, max_k: int, maxlen: int, iters: int, init_std: float, *, context: bool
    ) -> None:
        super().__init__()
        self.iters = iters
        self.context = context
        self.bilinear_mapping_matrix = nn.Parameter(torch.eye(dim))
        self.recency = nn.Parameter(torch.zeros(maxlen))
        self.register_buffer("routing_logits", torch.randn(1, max_k, dim) * init_std)
        self.routing_logits: Tensor
        if context:
            self.context_mapping_matrix = nn.Parameter(torch.eye(dim))
            self.context_recency = nn.Parameter(torch.zeros(maxlen))

    def forward(self, history: Tensor, lengths: Tensor) -> Tensor:
        """Interests [B, K, D] of ``history`` [B, L, D], of which ``lengths`` [B, 1] are real."""
        positions = torch.arange(history.shape[1])
        real = (positions < lengths).float().unsqueeze(1)  # [B, 1, L]
        age = (lengths - 1 - positions).clamp(0, self.recency.shape[0] - 1)  # [B, L]
        clicks = real * self.recency.exp()[age].unsqueeze(1)
        behaviours = history @ self.bilinear_mapping_matrix
        with torch.no_grad():
            fixed = behaviours.detach()
            logits = self.routing_logits @ to_unit(fixed).transpose(1, 2)  # [B, K, L]
            for _ in range(self.iters - 1):
                weights = logits.softmax(1) * clicks
                logits = logits + squash(weights @ fixed) @ fixed.transpose(1, 2)
            weights = logits.softmax(1)
        interests = (weights * clicks) @ behaviours
        if self.context:
            weights = real * self.context_recency.exp()[age].unsqueeze(1)
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-9)
            interests = interests + weights @ history @ self.context_mapping_matrix
        return squash(interests)


class MIND(nn.Module):
    """Embedding, routing, scores by interest, sampled softmax."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        hyper = {key.removeprefix(PREFIX): value for key, value in config.items()}
        wrong = [f"{key}: {hyper[key]}" for key in FIXED if hyper[key] != FIXED[key]]
        if wrong or hyper["attention"] == "soft":
            raise ValueError(f"not mirrored in PyTorch: {'; '.join(wrong) or 'attention: soft'}")
        self.neg_samples = hyper["neg_samples"]
        self.normalize = hyper["normalize"]
        self.temperature = hyper["temperature"]
        self.attention = hyper["attention"]
        dim, rows = hyper["embedding_dim"], hyper["item_count"]
        self.item_emb = nn.Embedding(rows, dim, sparse=True)
        nn.init.normal_(self.item_emb.weight, 0.0, hyper["emb_init_std"])
        self.capsual_layer = InterestCapsules(
            dim,
            hyper["capsual.max_k"],
            hyper["maxlen"],
            hyper["capsual.iters"],
            hyper["capsual.init_std"],
            context=hyper["context"],
        )

    def unit(self, vectors: Tensor) -> Tensor:
        """``vectors`` [..., D] at length 1 when the model is normalised, else as they are."""
        return to_unit(vectors) if self.normalize else vectors

    def interests(self, history: Tensor, lengths: Tensor) -> Tensor:
        """User vectors [B, K, D] of ``history`` [B, L] int64, padding 0, ``lengths`` [B, 1]."""
        return self.unit(self.capsual_layer(self.unit(self.item_emb(history)), lengths))

    def scores(self, interests: Tensor, target: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the targets [B, 1] and of the negatives [B, N]."""
        by_interest = (interests @ target.unsqueeze(-1)).squeeze(-1)  # [B, K]
        if self.attention == "max":
            return by_interest.amax(1, keepdim=True), (interests @ negative.T).amax(1)
        best = by_interest.argmax(1)
        user = interests[torch.arange(len(best)), best]  # [B, D]
        return (user * target).sum(-1, keepdim=True), user @ negative.T

    def forward(
        self, history: Tensor, lengths: Tensor, labels: Tensor, negatives: Tensor | None = None
    ) -> Tensor:
        """Mean loss of ``labels`` [B, 1] against ``negatives`` [N] int64, drawn where not given."""
        rows = self.item_emb.num_embeddings
        if negatives is None:
            negatives = torch.randint(1, rows, [self.neg_samples])
        interests = self.interests(history, lengths) / self.temperature
        target, negative = (
            self.unit(self.item_emb(labels[:, 0])),
            self.unit(self.item_emb(negatives)),
        )
        true, false = self.scores(interests, target, negative)
        false = false - math.log(len(negatives) / (rows - 1))
        false = false.masked_fill(labels == negatives, -1e9)
        logits = torch.cat([true, false], 1)
        return F.cross_entropy(logits, torch.zeros(len(labels), dtype=torch.int64))


def optimizers(model: MIND, learning_rate: float) -> list[torch.optim.Optimizer]:
    """SparseAdam touches only the rows that a batch looked up; Adam has the dense parameters."""
    dense = list(model.capsual_layer.parameters())
    return [
        torch.optim.SparseAdam([model.item_emb.weight], lr=learning_rate),
        torch.optim.Adam(dense, lr=learning_rate),
    ]
