# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Whether a graph index can work on these vectors at all, before anything large is built."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from paddlerec_milvus.bench.measure_build import BenchServer
from paddlerec_milvus.bench.measure_search import exact_of, quality_of
from paddlerec_milvus.bench.workload import Workload, norm_skew
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.indexes import LARGEST_EF, Hnsw
from paddlerec_milvus.sampling import evenly_spread

SAMPLE_ITEMS = 20_000
SAMPLE_USERS = 200
WIDER = 8  # times the ef, to see whether that helps
SOUND = 0.97  # index_recall that HNSW with ef 128 passes on a sample where lengths do no harm
EVEN = 1.2  # norm skew up to which inner product orders as a cosine does, nearly


@dataclass(frozen=True)
class Probe:
    """What a sample of the items shows."""

    items: int
    norm_skew: float
    """The longest item vector over the median one."""
    self_retrieval: float
    """Share of sampled items that are their own nearest, by exact search."""
    index_recall: float
    """Of HNSW (M 16, efConstruction 200) against exact search, on the sample."""
    ef: int
    wide_recall: float
    """The same with eight times the ``ef``, or the largest that Milvus takes."""
    metric: str

    @property
    def warning(self) -> str:
        """Why inner product breaks HNSW here and what to do; empty when it does not."""
        if self.metric != "IP" or self.norm_skew <= EVEN or self.index_recall >= SOUND:
            return ""
        return (
            f"HNSW with ef {self.ef} finds only {100 * self.index_recall:.1f} % of the true "
            f"neighbours on a sample of {self.items:,} items: the longest vector is "
            f"{self.norm_skew:.1f} times the median one, and {100 * self.self_retrieval:.0f} % of "
            f"the items are their own nearest. With ef {_wider(self.ef):,} it finds "
            f"{100 * self.wide_recall:.1f} %. Inner product and lengths so uneven break the graph: "
            "train with hyper_parameters.normalize=True (inner product is then a cosine), search "
            "with retrieval.metric=COSINE where lengths carry no meaning, or use FLAT or IVF_FLAT"
        )

    def __str__(self) -> str:
        return (
            f"probe on {self.items:,} items: norm skew {self.norm_skew:.2f}, self-retrieval "
            f"{100 * self.self_retrieval:.1f} %, HNSW with ef {self.ef} against exact "
            f"{100 * self.index_recall:.1f} %"
        )


def _wider(ef: int) -> int:
    return min(WIDER * ef, LARGEST_EF)


def probe(workload: Workload, k: int, place: BenchServer, seed: int = 1) -> Probe:
    """Build HNSW on a sample of items in ``place``, ask with some of the users' interests."""
    rng = np.random.default_rng(seed)
    count = min(SAMPLE_ITEMS, len(workload.ids))
    rows = np.sort(rng.permutation(len(workload.ids))[:count])
    users = workload.take(evenly_spread(len(workload.interests), SAMPLE_USERS))
    sample = replace(
        users, vectors=workload.vectors[rows], ids=workload.ids[rows], truths=None, histories=()
    )
    k = min(k, count)
    index = Hnsw(ef=max(128, k))
    target = place.target(sample.metric, index)
    with target.connect() as retriever:
        retriever.versions.build(sample.vectors, sample.ids)
        exact = exact_of(sample, k)
        narrow, wide = (
            quality_of(sample, exact, retriever.search_with(setting, sample.queries, k))
            for setting in (index, replace(index, ef=_wider(index.ef)))
        )
    some = evenly_spread(count, 1_000)
    truth = ExactRetriever(sample.vectors, sample.ids, sample.metric)
    own = truth.search(sample.vectors[some], 1).ids[:, 0]
    return Probe(
        items=count,
        norm_skew=norm_skew(sample.vectors),
        self_retrieval=float((own == sample.ids[some]).mean()),
        index_recall=narrow.index_recall.interest.mean,
        ef=index.ef,
        wide_recall=wide.index_recall.interest.mean,
        metric=sample.metric,
    )
