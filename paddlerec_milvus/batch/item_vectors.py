# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The item vectors of exactly this model in Milvus, and which items of it were deleted there."""

from __future__ import annotations

import logging

import numpy as np

from paddlerec_milvus.api.stored_items import LEAST_RECALL
from paddlerec_milvus.batch.user_model import UserModel
from paddlerec_milvus.data.catalogue import read_catalogue
from paddlerec_milvus.errors import RefusedError
from paddlerec_milvus.evaluation.index_check import require_recall
from paddlerec_milvus.retrieval.milvus import MilvusRetriever, retriever_from_settings
from paddlerec_milvus.retrieval.ownership import CHECKPOINT
from paddlerec_milvus.trained_model import ModelIdentity, TrainedModel, identity_of_model

logger = logging.getLogger(__name__)


def open_items(trained: TrainedModel, model: UserModel, *, insert: bool) -> MilvusRetriever:
    """The version that serves in the Milvus of the settings, whatever takes its place later.

    ``model`` is loaded from ``trained``. With ``insert`` its vectors are stored where no service's
    are.

    RetrievalError: Milvus is away, or holds the vectors of another model, or none.
    """
    own = identity_of_model(trained, model.digest)
    retriever = retriever_from_settings(trained.settings)
    try:
        serving = retriever.versions.serving()
        stored = serving is not None and CHECKPOINT in serving.properties
        if not stored and insert:
            logger.info("inserting the %d item vectors of %s", model.total, own)
            _insert(retriever, trained, model, own)
        version = retriever.open(pin=True)
        there = ModelIdentity.of_properties(version.properties)
        if there.digest != own.digest:
            raise RefusedError(
                f"collection {retriever.collection!r} at {retriever.uri} holds the vectors of "
                f"{there}, and this is {own}: no list is made of another model. Insert this one's "
                "(a service: POST /insert), or give another milvus.collection, or --exact"
            )
    except BaseException:
        retriever.close()
        raise
    return retriever


def _insert(
    retriever: MilvusRetriever, trained: TrainedModel, model: UserModel, own: ModelIdentity
) -> None:
    vectors, ids = model.vectors[1:], np.arange(1, model.total + 1, dtype=np.int64)
    named = read_catalogue(trained.data, len(ids)).categories
    advice = "or take the type FLAT; what was there before goes on"
    retriever.versions.build(
        vectors,
        ids,
        [named.get(item, "") for item in ids.tolist()] if named else None,
        properties=own.properties(),
        check=lambda name: require_recall(
            retriever.at(name), vectors, model.sample(), LEAST_RECALL, advice
        ),
        keep=True,
    )


def deleted_items(retriever: MilvusRetriever, total: int) -> frozenset[int]:
    """Those of the items 1 … ``total`` that are not stored any more."""
    if retriever.count(f"item <= {total}") == total:
        return frozenset()
    items = range(1, total + 1)
    return frozenset(items) - retriever.categories_of(items, "Strong").keys()
