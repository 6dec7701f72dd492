# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Channels and a ranker of one vector model: from a user's search to a ranked list, and on disk."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Set
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.command import warn
from paddlerec_milvus.data.staging import staged
from paddlerec_milvus.errors import CheckpointError, SettingsError
from paddlerec_milvus.ranking.channels import (
    CHANNELS,
    OF_TIMES,
    PAIR_TABLES,
    TRANSITIONS,
    Allowed,
    Channels,
    VectorHits,
)
from paddlerec_milvus.ranking.contributions import MOST_ITEMS, group_contributions
from paddlerec_milvus.ranking.features import ALL_FEATURES, FEATURES, ItemTraits, feature_rows
from paddlerec_milvus.ranking.files import (
    FOLDER,
    MANIFEST,
    RANKER_FILES,
    TABLES,
    RankingManifest,
    categories_digest,
    checked_content,
    read_manifest,
    sha256,
)
from paddlerec_milvus.ranking.graph_filter import GraphFilter
from paddlerec_milvus.ranking.pair_table import PairTable
from paddlerec_milvus.ranking.ranker import Ranker, read_ranker, written
from paddlerec_milvus.ranking.trends import Trends
from paddlerec_milvus.settings import Settings

GRAPH, TRENDS = "graph", "trends"

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


class RankedList(NamedTuple):
    """The ranked candidates of one user, best first; k of them."""

    items: IntArray
    """[k]"""
    scores: FloatArray
    """[k], the ranker's."""
    ranks: IntArray
    """[k, C], the place in each channel's list from 1; 0: it is not in it."""
    interests: IntArray
    """[k], the interest that is nearest."""
    follows: IntArray
    """[k], the click that it follows most often in the log; 0: none."""
    contributions: FloatArray | None = None
    """[at most 50, G], of the first items what each group of features adds; None: not explained."""


class RankedCandidates(NamedTuple):
    """All n candidates of one user, best first; reasons are made of what is listed alone."""

    items: IntArray
    """[n]"""
    scores: FloatArray
    """[n], the ranker's."""
    ranks: IntArray
    """[n, C], as in a list of them."""
    contributions: FloatArray | None
    """[at most 50, G], of the first of them; None: not explained."""
    reasons: Callable[[IntArray, IntArray], tuple[IntArray, IntArray]]
    """From items [k] and their ranks [k, C] to their nearest interests, and what they follow."""

    def listed(self, places: IntArray) -> RankedList:
        """Those at ``places`` [k], which rise."""
        items, ranks = self.items[places], self.ranks[places]
        explained = self.contributions
        if explained is not None:
            explained = explained[places[places < MOST_ITEMS]]
        return RankedList(items, self.scores[places], ranks, *self.reasons(items, ranks), explained)


class RankingModel:
    """Channels and ranker beside one vector model. Safe to use from several threads."""

    def __init__(
        self,
        manifest: RankingManifest,
        channels: Channels,
        ranker: Ranker,
        vectors: FloatArray,
        categories: IntArray,
    ) -> None:
        """``vectors`` [V, D] are the model's item table, ``categories`` [V] numbers, -1: none."""
        self.manifest, self.digest = manifest, manifest.digest
        self.channels, self.ranker = channels, ranker
        self.traits = ItemTraits.of(vectors, channels, categories)

    def rank(
        self,
        history: IntArray,
        interests: FloatArray,
        hits: VectorHits,
        excluded: Set[int],
        top_k: int,
        allowed: Allowed | None = None,
        *,
        explain: bool = False,
    ) -> RankedList:
        """The ``top_k`` best of :meth:`candidates`, with the same arguments."""
        best = self.candidates(history, interests, hits, excluded, allowed, explain=explain)
        return best.listed(np.arange(min(top_k, len(best.items))))

    def candidates(
        self,
        history: IntArray,
        interests: FloatArray,
        hits: VectorHits,
        excluded: Set[int],
        allowed: Allowed | None = None,
        *,
        explain: bool = False,
    ) -> RankedCandidates:
        """All candidates for the clicks ``history`` [L], the newest last, ranked.

        ``interests`` [K, D] are the model's of this history, ``hits`` what they found; further see
        :meth:`Channels.pool`; with ``explain`` it is known what moved the first of them.
        FloatingPointError: a score is no number.
        """
        pool = self.channels.pool(history, hits, excluded, allowed)
        rows = feature_rows(pool, history, interests, hits, self.traits)
        scores = np.zeros(0, np.float32)
        if len(rows):
            scores = self.ranker.scores(rows, pool.items, history)
        if not np.isfinite(scores).all():
            raise FloatingPointError("the ranker gave a score that is no number")
        best = np.argsort(-scores, kind="stable")

        transitions = self.channels.tables[TRANSITIONS]

        def reasons(items: IntArray, ranks: IntArray) -> tuple[IntArray, IntArray]:
            nearest = self._nearest(items, ranks[:, 0], interests, hits)
            newest_first = np.append(history[::-1], 0)
            return nearest, newest_first[transitions.strongest(newest_first[:-1], items)]

        return RankedCandidates(
            pool.items[best],
            scores[best],
            pool.ranks[best],
            self._contributions(pool.items, rows, best[:MOST_ITEMS], history) if explain else None,
            reasons,
        )

    def _contributions(
        self, items: IntArray, rows: FloatArray, listed: IntArray, history: IntArray
    ) -> FloatArray:
        """[k, G], what each group of features adds to the scores of ``rows[listed]``."""

        def scores_of(variants: FloatArray) -> FloatArray:
            repeated = np.resize(items[listed], len(variants))
            return self.ranker.scores(variants, repeated, history)

        return group_contributions(scores_of, rows, listed)

    def _nearest(
        self, items: IntArray, ranks: IntArray, interests: FloatArray, hits: VectorHits
    ) -> IntArray:
        """[k], the interest of the highest score; what the search said where it had the item."""
        known = items < len(self.traits.vectors)
        vectors = self.traits.vectors[np.where(known, items, 0)]
        nearest: IntArray = (vectors @ interests.T).argmax(axis=1)
        nearest[ranks > 0] = hits.interests[ranks[ranks > 0] - 1]
        return nearest

    def save(self, checkpoint: Path) -> None:
        """Write to the folder ``ranking`` of ``checkpoint``, whole or not at all."""
        with staged(checkpoint / FOLDER) as folder:
            tables = {
                f"{name}_{part}": getattr(table, part)
                for name, table in self.channels.tables.items()
                for part in PairTable._fields
            }
            if self.channels.trends is not None:
                trends = self.channels.trends._asdict().items()
                tables |= {f"{TRENDS}_{part}": array for part, array in trends}
            graph = self.channels.graph._asdict().items()
            tables |= {f"{GRAPH}_{part}": array for part, array in graph}
            np.savez(folder / TABLES, clicks=self.channels.clicks, **tables)
            name, content = written(self.ranker)
            (folder / name).write_bytes(content)
            files = {one: sha256((folder / one).read_bytes()) for one in (TABLES, name)}
            manifest = self.manifest.model_copy(update={"files": files})
            text = json.dumps(manifest.model_dump(), indent=2)
            (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
        self.manifest, self.digest = manifest, manifest.digest


def require_inner_product(settings: Settings) -> None:
    """SettingsError for a metric in which features are not made."""
    if settings.retrieval.metric != "IP":
        raise SettingsError(
            f"retrieval.metric is {settings.retrieval.metric}: ranking wants IP (with vectors of "
            "length 1 it is the cosine)"
        )


def warn_of_other_quotas(settings: Settings, manifest: RankingManifest) -> None:
    """Say so where ``settings`` name a quota that is not the ranker's: it is not followed."""
    named = settings.ranking.quotas.model_dump(exclude_unset=True)
    others = [
        f"{name} {most} (the ranker has {own})"
        for name in _channels_of(manifest)
        if (most := named.get(name)) not in (None, own := manifest.quotas.get(name, 0))
    ]
    if others:
        warn(f"ranking.quotas: {', '.join(others)}: not followed; train the ranker anew for that")


def load_ranking(
    checkpoint: Path, vectors: FloatArray, categories: IntArray, model: str, data: str | None
) -> RankingModel:
    """The ranker beside ``checkpoint``, for the model with the digest ``model`` and data ``data``.

    ``data`` None: its data are not here, and ``model`` says whose it is. ``vectors`` [V, D] and
    ``categories`` [V] are the items'. CheckpointError: there is none, it is
    of another model, other data, channels or features, or a file is not the one that was saved.
    """
    folder = checkpoint / FOLDER
    manifest, (tables, ranker) = _fitting_files(folder, model, data, len(vectors))
    _require_categories(folder, manifest, categories)
    with np.load(io.BytesIO(tables), allow_pickle=False) as arrays:
        pairs = {
            name: PairTable(*(arrays[f"{name}_{part}"] for part in PairTable._fields))
            for name in PAIR_TABLES
        }
        trends = None
        if _is_timed(manifest):
            trends = Trends(*(arrays[f"{TRENDS}_{part}"] for part in Trends._fields))
        graph = GraphFilter(*(arrays[f"{GRAPH}_{part}"] for part in GraphFilter._fields))
        channels = Channels(arrays["clicks"], pairs, graph, manifest.quotas, trends)
    return RankingModel(
        manifest, channels, read_ranker(ranker, manifest, categories), vectors, categories
    )


def require_ranking(checkpoint: Path, model: str, data: str | None) -> None:
    """CheckpointError: there is no ranker beside ``checkpoint`` that :func:`load_ranking` takes.

    Whether the model has as many items is seen there alone.
    """
    _fitting_files(checkpoint / FOLDER, model, data, None)


def _fitting_files(
    folder: Path, model: str, data: str | None, item_count: int | None
) -> tuple[RankingManifest, list[bytes]]:
    """What the manifest says, and the files of tables and ranker."""
    manifest = read_manifest(folder)
    _require_fit(folder, manifest, model, data, item_count or manifest.item_count)
    names = (TABLES, RANKER_FILES[manifest.ranker])
    return manifest, [checked_content(folder / name, manifest) for name in names]


def _require_fit(
    folder: Path, manifest: RankingManifest, model: str, data: str | None, item_count: int
) -> None:
    channels = [name for name in _channels_of(manifest) if name in manifest.quotas]
    features = ALL_FEATURES if _is_timed(manifest) else FEATURES
    expected: dict[str, tuple[object, object]] = {
        "model": (manifest.model, model),
        "data": (manifest.data, manifest.data if data is None else data),
        "item_count": (manifest.item_count, item_count),
        "channels": (manifest.channels, channels),
        "features": (manifest.features, list(features)),
    }
    for name, (theirs, ours) in expected.items():
        if theirs != ours:
            raise CheckpointError(
                f"{folder}: the ranker was trained with another {name}: "
                f"{_differing(theirs, ours)}, here {_differing(ours, theirs)}; "
                "train it anew: python tools/rank.py"
            )


def _differing(one: object, other: object) -> object:
    """``one``; of a list what ``other`` lacks, and all of it where they differ in order alone."""
    if isinstance(one, list) and isinstance(other, list) and set(one) != set(other):
        return [name for name in one if name not in other] or "none of these"
    return one


def _require_categories(folder: Path, manifest: RankingManifest, categories: IntArray) -> None:
    """CheckpointError: DIN has learned others: a number stood for another category."""
    if manifest.ranker != "din" or not manifest.categories:
        return
    if (ours := categories_digest(categories)) != manifest.categories:
        raise CheckpointError(
            f"{folder}: the ranker was trained with other categories of items (digest "
            f"{manifest.categories}, here {ours}): items.csv has changed since, or cannot be read; "
            "put it back, or train the ranker anew: python tools/rank.py"
        )


def _is_timed(manifest: RankingManifest) -> bool:
    """Whether its features are those of a log that was split by time."""
    return len(manifest.features) == len(ALL_FEATURES)


def _channels_of(manifest: RankingManifest) -> list[str]:
    """Those that it may have."""
    return [name for name in CHANNELS if name not in OF_TIMES or _is_timed(manifest)]
