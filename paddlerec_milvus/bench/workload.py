# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a benchmark searches: item vectors, the interests of users, and what these clicked later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from paddlerec_milvus.retrieval.base import FloatArray, IntArray

if TYPE_CHECKING:  # paddle
    from paddlerec_milvus.encoder import Encoder
    from paddlerec_milvus.evaluation.predict import Queries
    from paddlerec_milvus.ranking.ranking_model import RankingModel
    from paddlerec_milvus.settings import Settings


class WorkloadInfo(BaseModel):
    """What a result says of the data that was searched, and further words on its origin."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    fingerprint: str
    items: int
    dimension: int
    users: int
    interests: int
    metric: str
    norm_skew: float | None = None
    """The longest item vector over the median one."""
    split: str | None = None
    """How the log of the users was split, in words."""


class Truths(NamedTuple):
    """Held-out clicks; those of user u are ``items[indptr[u]:indptr[u + 1]]``."""

    indptr: IntArray
    """[U + 1] int64."""
    items: IntArray
    """[T] int64."""

    def take(self, rows: IntArray) -> Truths:
        """Those of some of the users, in the order of ``rows``."""
        parts = [self.items[self.indptr[row] : self.indptr[row + 1]] for row in rows]
        ends = np.cumsum([0, *map(len, parts)]).astype(np.int64)
        return Truths(ends, np.concatenate(parts) if parts else self.items[:0])


class WorkloadRanker(NamedTuple):
    """What ranks the candidates of a workload's users."""

    model: RankingModel
    maxlen: int
    """The last clicks of a history that it sees."""


@dataclass(frozen=True)
class Workload:
    """N items and U users with K interests each, all of D dimensions."""

    name: str
    vectors: FloatArray
    """[N, D] float32."""
    ids: IntArray
    """[N] int64, distinct, from 1."""
    interests: FloatArray
    """[U, K, D] float32."""
    metric: str
    """IP, COSINE or L2."""
    truths: Truths | None = None
    """None where nobody clicked: synthetic vectors."""
    histories: Sequence[IntArray] = ()
    """U arrays of item ids, or empty."""
    ranker: WorkloadRanker | None = None
    """None: nothing is ranked."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from."""

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of SHA-256 over all that is searched and compared with."""
        digest = sha256(self.metric.encode())
        for array in (self.vectors, self.ids, self.interests, *(self.truths or ())):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    @property
    def queries(self) -> FloatArray:
        """[U * K, D]: the interests of user 0, then those of user 1 …"""
        return self.interests.reshape(-1, self.interests.shape[2])

    def take(self, rows: IntArray) -> Workload:
        """The same items, and some of the users [n] by their row."""
        return replace(
            self,
            interests=self.interests[rows],
            truths=self.truths.take(rows) if self.truths else None,
            histories=[self.histories[row] for row in rows] if self.histories else (),
        )

    @property
    def info(self) -> WorkloadInfo:
        """What a result says of it."""
        users, interests, dimension = self.interests.shape
        return WorkloadInfo(
            name=self.name,
            fingerprint=self.fingerprint,
            items=len(self.ids),
            dimension=dimension,
            users=users,
            interests=interests,
            metric=self.metric,
            norm_skew=round(norm_skew(self.vectors), 3),
            **self.about,
        )

    def described(self) -> dict[str, Any]:
        """The same for JSON files of other programs."""
        return self.info.model_dump()


def norm_skew(vectors: FloatArray) -> float:
    """The largest length of ``vectors`` [N, D] over their median one; 1 when normalised."""
    norms = np.linalg.norm(vectors, axis=1)
    middle = float(np.median(norms))
    return float(norms.max() / middle) if middle else float("inf")


def synthetic_workload(
    *,
    items: int,
    dimension: int,
    users: int,
    interests: int,
    clusters: int,
    spread: float,
    norm_skew: float,
    metric: str,
    seed: int,
) -> Workload:
    """Items around ``clusters`` centres on the unit sphere, users with interests near some of them.

    ``spread`` is the length of the noise beside a centre's 1. Items have length 1, or with
    ``norm_skew`` above 0 lengths exp(norm_skew * z), z standard normal. Nobody clicks: no truths.
    """
    rng = np.random.default_rng(seed)
    centres = unit_vectors(rng.standard_normal((clusters, dimension), dtype=np.float32))
    vectors = vectors_around(centres[rng.integers(clusters, size=items)], spread, rng)
    if norm_skew:
        lengths = np.exp(norm_skew * rng.standard_normal(items))
        vectors *= lengths[:, None].astype(np.float32)
    nearest = centres[rng.integers(clusters, size=users * interests)]
    queries = vectors_around(nearest, spread, rng).reshape(users, interests, dimension)
    return Workload(
        name=f"synthetic {items:,} x {dimension}",
        vectors=vectors,
        ids=np.arange(1, items + 1, dtype=np.int64),
        interests=queries,
        metric=metric,
        about={"clusters": clusters, "spread": spread, "planted_skew": norm_skew},
    )


def unit_vectors(vectors: FloatArray) -> FloatArray:
    """``vectors`` [n, D] at length 1; none may be all zeros."""
    lengths: FloatArray = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


def vectors_around(centres: FloatArray, spread: float, rng: np.random.Generator) -> FloatArray:
    """One unit vector beside each of ``centres`` [n, D], at noise of the length ``spread``."""
    noise = rng.standard_normal(centres.shape, dtype=np.float32)
    return unit_vectors(centres + noise * np.float32(spread / np.sqrt(centres.shape[1])))


def trained_workload(
    name: str,
    model: str,
    data: Path | None,
    options: Sequence[str],
    epoch: int | str,
    users: int,
    seed: int,
    *,
    rank: bool = False,
) -> Workload:
    """The items of a checkpoint, and ``users`` of its test users, drawn with ``seed`` (0: all).

    ``model``, ``data`` and ``options`` are what ``tools/infer.py`` takes as ``-m``, ``--data`` and
    ``-o``; ``epoch`` is a number or ``best``. ``rank``: with the ranker beside the checkpoint.
    Raises UserError: no checkpoint, one that does not fit or was trained on other data, no test
    set, no ranker, one that does not fit or learned from them, a metric in which nothing is ranked.
    """
    from paddlerec_milvus.checkpoint import BEST, best_epoch, usable_checkpoint
    from paddlerec_milvus.checkpoint_record import data_of
    from paddlerec_milvus.command import settings_for
    from paddlerec_milvus.data.prepared import split_words_beside
    from paddlerec_milvus.encoder import Encoder
    from paddlerec_milvus.evaluation.held_out_summary import tests_on_valid_users
    from paddlerec_milvus.evaluation.predict import Queries, read_users
    from paddlerec_milvus.evaluation.results import CHOSE_EPOCH
    from paddlerec_milvus.zoo import ModelFolder

    settings = settings_for(model, options, data)
    identity = data_of(settings, held_out=True)
    held_out = read_users(settings, "test_data_dir")
    encoder = Encoder(settings, ModelFolder(settings.model_dir))
    checkpoint = usable_checkpoint(settings, str(epoch))
    encoder.load(checkpoint)
    rows = _drawn(len(held_out), users, seed)
    histories = held_out.history_list()
    table = encoder.item_vectors()
    split = split_words_beside(settings.path("test_data_dir"))
    if epoch == BEST and tests_on_valid_users(settings):
        split += f"; {CHOSE_EPOCH}"
    ranker = _ranker(settings, checkpoint, encoder) if rank else None
    queries = Queries.of(held_out, encoder.maxlen, exclude_history=False)[rows]
    return Workload(
        name=name,
        vectors=table[1:],
        ids=np.arange(1, len(table), dtype=np.int64),
        interests=_interests(encoder, settings, queries),
        metric=settings.retrieval.metric,
        truths=Truths(held_out.truth_indptr, held_out.truths).take(rows),
        histories=[histories[row] for row in rows],
        ranker=ranker,
        about={
            "model": model,
            "epoch": best_epoch(checkpoint.parent) if epoch == BEST else int(epoch),
            "data": identity and identity.name,
            "data_fingerprint": identity and identity.fingerprint,
            "split": split,
            "ranker": ranker and ranker.model.manifest.digest,
        },
    )


def _drawn(count: int, users: int, seed: int) -> IntArray:
    """``users`` of ``count`` rows, in their order; all of them where ``users`` is 0."""
    rows = np.arange(count)
    if not 0 < users < count:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, users, replace=False))


def _ranker(settings: Settings, checkpoint: Path, encoder: Encoder) -> WorkloadRanker:
    from paddlerec_milvus.evaluation.held_out_summary import require_others_than_the_ranker_saw
    from paddlerec_milvus.ranking.ranking_model import require_inner_product
    from paddlerec_milvus.ranking.training import ranking_beside
    from paddlerec_milvus.trained_model import TrainedModel

    require_inner_product(settings)
    require_others_than_the_ranker_saw(settings)
    model = ranking_beside(TrainedModel(settings, checkpoint), encoder.item_vectors())
    return WorkloadRanker(model, encoder.maxlen)


def _interests(encoder: Encoder, settings: Settings, queries: Queries) -> FloatArray:
    step = settings.runner.infer_batch_size
    return np.concatenate(
        [
            encoder.interests(part.histories, part.lengths, part.users)
            for part in (
                queries[start : start + step] for start in range(0, len(queries.lengths), step)
            )
        ]
    )
