# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A model's item vectors in Milvus, stored as the service stores them, so that it can use them."""

from __future__ import annotations

import logging

import numpy as np

from paddlerec_milvus.api.loaded_model import LoadedModel
from paddlerec_milvus.errors import RefusedError
from paddlerec_milvus.evaluation.index_check import require_recall
from paddlerec_milvus.retrieval.milvus import MilvusRetriever, retriever_from_settings
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.trained_model import ModelIdentity, identity_of_model

logger = logging.getLogger(__name__)

LEAST_RECALL = 0.5  # as a service's SERVING_LEAST_RECALL


def open_index(model: LoadedModel, settings: Settings, *, rebuild: bool) -> MilvusRetriever:
    """A retriever of the vectors of ``model`` in the Milvus of ``settings``.

    They are stored unless they lie there with this index, or ``rebuild``.

    Raises:
        RetrievalError: Milvus is away or refuses, the collection holds vectors of other data, or
            the new index finds too little.
    """
    trained = model.on_disk._replace(settings=settings)
    own = identity_of_model(trained, trained.fingerprint())
    retriever = retriever_from_settings(settings)
    try:
        serving = retriever.versions.serving()
        stored = ModelIdentity.of_properties(serving.properties if serving else {})
        if stored.model_copy(update={"ranker": ""}) == own and not rebuild:
            logger.info("%s holds the vectors of %s already", retriever.uri, own)
        else:
            if not rebuild and stored.digest and stored.data_fingerprint != own.data_fingerprint:
                raise RefusedError(
                    f"collection {retriever.collection!r} at {retriever.uri} holds the vectors of "
                    f"{stored}, and this is {own}: give another options="
                    '{"milvus.collection": …}, or replace them with rebuild=True'
                )
            _build(retriever, model, own)
        retriever.open(rows=None, pin=True)
        if (added := retriever.count(f"item > {model.total}")) > 0:
            raise RefusedError(
                f"collection {retriever.collection!r} at {retriever.uri} holds {added} items more "
                "than the model, which a service added: ask that service, or give another "
                'options={"milvus.collection": …}, or replace all with rebuild=True'
            )
    except BaseException:
        retriever.close()
        raise
    return retriever


def _build(retriever: MilvusRetriever, model: LoadedModel, own: ModelIdentity) -> None:
    vectors, named = model.vectors, model.catalogue.categories
    ids = np.arange(1, len(vectors) + 1, dtype=np.int64)
    queries = model.encoder.sample(len(vectors))
    advice = "or take the type FLAT; what was there before goes on"
    retriever.versions.build(
        vectors,
        ids,
        [named.get(item, "") for item in ids.tolist()] if named else None,
        properties=own.properties(),
        check=lambda name: require_recall(
            retriever.at(name), vectors, queries, LEAST_RECALL, advice
        ),
        keep=True,
    )
