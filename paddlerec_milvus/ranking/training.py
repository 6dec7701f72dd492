# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""From a trained vector model to channels and a ranker beside its checkpoint."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.data.catalogue import read_catalogue
from paddlerec_milvus.data.held_out import HeldOutUsers, read_held_out
from paddlerec_milvus.data.item_times import read_item_times
from paddlerec_milvus.data.log import ClickLog, read_click_log
from paddlerec_milvus.data.prepared import folder_above
from paddlerec_milvus.encoder import loaded_encoder
from paddlerec_milvus.errors import DataError, SettingsError
from paddlerec_milvus.ranking.channels import Channels, quotas_of
from paddlerec_milvus.ranking.din_training import MOST, fit_din
from paddlerec_milvus.ranking.features import ALL_FEATURES, ItemTraits
from paddlerec_milvus.ranking.files import RankerKind, RankingManifest, categories_digest
from paddlerec_milvus.ranking.ranker import Ranker, kind_of
from paddlerec_milvus.ranking.ranking_model import (
    RankingModel,
    load_ranking,
    require_inner_product,
    warn_of_other_quotas,
)
from paddlerec_milvus.ranking.samples import (
    LISTS,
    ROUNDS,
    RankingLists,
    ranking_lists,
    searched_users,
    training_moments,
    with_held_out,
)
from paddlerec_milvus.ranking.tree_training import fit_trees
from paddlerec_milvus.ranking.trends import Trends
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.trained_model import TrainedModel, identity_of_model

logger = logging.getLogger(__name__)


def train_ranking(
    trained: TrainedModel,
    seed: int = 1,
    threads: int = 1,
    features: Sequence[str] = ALL_FEATURES,
    kind: RankerKind = "din",
    *,
    most_lists: int = LISTS,
    rounds: int = ROUNDS,
) -> RankingModel:
    """Count the channels, make lists of the valid users, fit the ranker, save all of it.

    It learns from channels that have not seen what it is to predict; those that are saved have the
    clicks of valid users, too.

    ``features`` are those that the ranker may use; the order that it starts from always has the
    interests' score. ``kind`` is boosted trees, on ``threads`` of them, or the network DIN. It
    learns from at most ``most_lists`` lists, in at most ``rounds`` rounds of boosting or epochs:
    fewer of both take less time.

    UserError: the checkpoint does not fit its data, there are no valid users, labels leaked, or
    too few lists have a label.
    """
    settings = trained.settings
    require_inner_product(settings)
    _require_something_to_learn(settings, lists=most_lists, rounds=rounds)
    trained.require_fit()
    digest = trained.fingerprint()
    began = time.perf_counter()
    log = read_click_log(settings.path("train_data_dir"))
    held_out = read_held_out(settings.path("valid_data_dir"))
    moments = training_moments(held_out, log, seed, most_lists)
    encoder = loaded_encoder(*trained)
    vectors = encoder.item_vectors()
    if (largest := max(int(one.history.max(initial=0)) for one in moments)) >= len(vectors):
        raise DataError(
            f"{settings.path('valid_data_dir')}: a history holds item {largest}, but the model has "
            f"items up to {len(vectors) - 1}: it was trained on other data"
        )
    channels = _channels(trained, log, len(vectors))
    quotas = ", ".join(f"{name} {most}" for name, most in channels.quotas.items())
    logger.info("channels (%s): %.1f s", quotas, time.perf_counter() - began)
    traits = ItemTraits.of(vectors, channels, category_numbers(trained, len(vectors)))
    usable = _usable(features, traits)
    retriever = ExactRetriever(vectors[1:], np.arange(1, len(vectors)), "IP")
    users = searched_users(moments, encoder.interests, encoder.maxlen, retriever, channels.searched)
    lists = ranking_lists(channels, traits, users, MOST if kind == "din" else most_lists)
    logger.info(
        "%d lists with a later click among %d candidates, %d labels: %.1f s",
        *(len(lists.sizes), len(lists.rows), np.count_nonzero(lists.labels)),
        time.perf_counter() - began,
    )
    ranker = _fitted(kind, lists, traits, seed, threads, usable, rounds)
    logger.info("%s: %.1f s", kind, time.perf_counter() - began)
    manifest = _manifest(trained, digest, ranker, channels, traits, seed, len(lists.sizes))
    channels = _with_clicks_of(held_out, log, channels)
    model = RankingModel(manifest, channels, ranker, vectors, traits.categories)
    trained.require_still(digest)
    model.save(trained.checkpoint)
    return model


def _require_something_to_learn(settings: Settings, **counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise SettingsError(f"{name}: {count}: nothing is learned so; at least 1")
    if settings.runner.valid_data_dir is None:
        raise SettingsError(
            "runner.valid_data_dir: a ranker learns from valid users, whom the vector model has "
            "not seen; name them, or use --data with a folder that prepare.py wrote"
        )


def _channels(trained: TrainedModel, log: ClickLog, item_count: int) -> Channels:
    """Counted in ``log``, with the quotas of the settings, and rising and new items where it is
    known when items were clicked until the valid truths begin.
    """
    settings, times = trained.settings, None
    # of valid users from elsewhere nobody knows whether their clicks are later
    if trained.data == folder_above(settings.path("valid_data_dir")):
        times = read_item_times(trained.data, log, item_count)
    trends = None if times is None else Trends.of(times)
    quotas = quotas_of(settings.ranking.quotas, timed=trends is not None)
    logger.info("counting channels in %d clicks", len(log.items))
    return Channels.of(log, item_count, quotas, trends)


def _with_clicks_of(users: HeldOutUsers, log: ClickLog, channels: Channels) -> Channels:
    """``channels``, counted in ``log`` and all clicks of ``users``."""
    count = len(channels.clicks)
    clicks = with_held_out(log, users, count)
    logger.info("counting channels once more, with valid users: %d clicks", len(clicks.items))
    return Channels.of(clicks, count, channels.quotas, channels.trends)


def _usable(features: Sequence[str], traits: ItemTraits) -> list[str]:
    """Those of ``features`` that are known here. SettingsError: none."""
    usable = [name for name in features if name in traits.features]
    if not usable:
        raise SettingsError("--without: names all features; leave the ranker some of them")
    return usable


def _manifest(
    trained: TrainedModel,
    digest: str,
    ranker: Ranker,
    channels: Channels,
    traits: ItemTraits,
    seed: int,
    lists: int,
) -> RankingManifest:
    """What ``ranker`` was trained with; no file is written yet."""
    identity = identity_of_model(trained, digest)
    return RankingManifest(
        ranker=kind_of(ranker),
        model=identity.digest,
        data=identity.data_fingerprint,
        item_count=len(traits.vectors),
        categories=categories_digest(traits.categories),
        channels=list(channels.quotas),
        quotas=dict(channels.quotas),
        features=list(traits.features),
        used=list(ranker.features),
        start=ranker.start,
        seed=seed,
        lists=lists,
        files={},
    )


def _fitted(
    kind: RankerKind,
    lists: RankingLists,
    traits: ItemTraits,
    seed: int,
    threads: int,
    features: Sequence[str],
    rounds: int,
) -> Ranker:
    if kind == "trees":
        return fit_trees(lists, seed, threads, features, rounds)
    return fit_din(lists, traits.vectors, traits.categories, seed, features, rounds)


def ranking_beside(trained: TrainedModel, vectors: npt.NDArray[np.float32]) -> RankingModel:
    """The ranker of ``trained``, whose item table is ``vectors`` [V, D].

    CheckpointError: there is none, or it does not fit.
    """
    categories = category_numbers(trained, len(vectors))
    identity = identity_of_model(trained, trained.fingerprint())
    model = load_ranking(
        trained.checkpoint, vectors, categories, identity.digest, identity.data_fingerprint
    )
    warn_of_other_quotas(trained.settings, model.manifest)
    return model


def category_numbers(trained: TrainedModel, item_count: int) -> npt.NDArray[np.int64]:
    """[item_count]: a number for the category of each item of the prepared data, -1: none."""
    catalogue = read_catalogue(trained.data, item_count - 1)
    return catalogue.category_numbers(np.arange(item_count))
