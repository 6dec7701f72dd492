# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Another list for a request: by the version before, by exact search, by other search parameters.

None of it is served: it is computed for who compares, aside from the requests under way.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np

from paddlerec_milvus.errors import RefusedError
from paddlerec_milvus.retrieval.base import Retriever
from paddlerec_milvus.retrieval.candidates import CountedHits
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.retrieval.indexes import index_of_name, setting_name
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.serving.candidates import (
    answer_by_model,
    answer_by_popularity,
    search_candidates,
)
from paddlerec_milvus.serving.comparison_schemas import (
    AlternativeAnswer,
    AlternativeRequest,
    AlternativesAnswer,
)
from paddlerec_milvus.serving.deployment import Deployment, ServedVersion
from paddlerec_milvus.serving.item_index import BusyError
from paddlerec_milvus.serving.model_cache import ServingModel
from paddlerec_milvus.serving.schemas import CandidatesAnswer, CandidatesRequest
from paddlerec_milvus.serving.validation import UserBatch, user_batch
from paddlerec_milvus.trained_model import ModelIdentity

MOST_EXACT = 2_000_000  # items whose vectors are copied and compared for one list
LONGEST_WAIT = 0.5  # seconds, for another such copy to be done with
_scanning = threading.Lock()  # one at a time


def alternatives(deployment: Deployment, served: ServedVersion) -> AlternativesAnswer:
    """What the list of ``served`` can be compared with; no model is loaded for it."""
    before = deployment.previous()
    index = served.retriever.index if isinstance(served.retriever, MilvusRetriever) else None
    return AlternativesAnswer(
        before=before and before.identity,
        is_exact=served.retriever.is_exact,
        search=index.search_params(1) if index else {},
    )


def alternative(
    deployment: Deployment,
    served: ServedVersion,
    request: AlternativeRequest[Any],
    metric: str,
    least_history: int = 1,
    *,
    as_text: bool = False,
) -> AlternativeAnswer:
    """The list of ``request`` by whom it names; RefusedError: that one is not here.

    ``metric`` is that of the index. Other errors are the retriever's.
    """
    whose = deployment.stored
    if request.by == "before":
        if (before := deployment.before()) is None:
            raise RefusedError("there is no version before the serving one that could answer")
        served, whose = before, before.version.identity
    model = served.model
    batch = batch_for(model, request, least_history, as_text=as_text)
    if request.by == "popular":
        answer, whose = answer_by_popularity(batch, model.catalogue, "popular"), ModelIdentity()
    elif not len(batch.rows):
        answer = answer_by_popularity(batch, model.catalogue)
    elif request.by == "exact":
        whose = whose.model_copy(update={"index": "exact"})
        answer = _exactly(served, metric, batch)
    elif request.by == "before":
        answer = _by_model(served.retriever, model, batch)
    else:
        retriever = _searched_with(served.retriever, request.by)
        counted = CountedHits(retriever)
        answer = _by_model(counted, model, batch)
        most = max(counted.hits, default=0)  # some parameters have to reach that
        params = retriever.index.search_params(most)
        name = setting_name(retriever.index.label, params)
        whose = whose.model_copy(update={"index": name})
    return AlternativeAnswer.model_construct(**dict(answer), whose=whose)


def batch_for(
    model: ServingModel, request: CandidatesRequest[Any], least_history: int, *, as_text: bool
) -> UserBatch:
    """The users of ``request`` as arrays for any ``model``, which may have to ask Milvus."""
    arguments = (request, model.tower.maxlen, model.catalogue, model.ids, least_history)
    batch = user_batch(*arguments, as_text=as_text)
    if batch.unresolved:
        model.ids.resolve(batch.unresolved)
        batch = user_batch(*arguments, as_text=as_text)
    batch = batch._replace(hidden=model.hidden.known)
    if request.filter is None:
        return batch
    return batch._replace(categories=model.categories.stored(request.filter.category))


def _by_model(retriever: Retriever, model: ServingModel, batch: UserBatch) -> CandidatesAnswer:
    results = search_candidates(
        retriever,
        batch.request,
        model.tower.interests(batch.histories[batch.rows], batch.lengths[batch.rows]),
        [batch.exclude[row] for row in batch.rows.tolist()],
        model.catalogue,
        categories=batch.categories,
    )
    model.ids.learn_names(results.candidates.ids, results.nearest)
    return answer_by_model(batch, model.catalogue, results)


def _exactly(served: ServedVersion, metric: str, batch: UserBatch) -> CandidatesAnswer:
    """By all of the model's own items, whatever was put or deleted since.

    RefusedError: they are too many. BusyError: somebody else compares just now.
    """
    model, total = served.model, served.model.tower.items
    if total > MOST_EXACT:
        raise RefusedError(
            f"exact search here is for at most {MOST_EXACT:,} items, and the model has {total:,}: "
            "tools/infer.py measures an index of any size"
        )
    if not _scanning.acquire(timeout=LONGEST_WAIT):
        raise BusyError("other lists are made by exact search just now: try again")
    try:
        ids = np.arange(1, total + 1)
        named = model.catalogue.categories
        categories = [named.get(item, "") for item in ids.tolist()]
        retriever = ExactRetriever(model.tower.item_vectors()[1:], ids, metric, categories)
        return _by_model(retriever, model, batch)
    finally:
        _scanning.release()


def _searched_with(retriever: Retriever, params: Mapping[str, int]) -> MilvusRetriever:
    """The same version, searched with ``params``; RefusedError: its index has no such parameter."""
    if not isinstance(retriever, MilvusRetriever):
        raise RefusedError(f"a {type(retriever).__name__} has no search parameters")
    known = retriever.index.search_params(1)
    if unknown := sorted(params.keys() - known):
        raise RefusedError(
            f"{retriever.index.type_name} has no search parameter {', '.join(unknown):.60}; it "
            f"has: {', '.join(known) or 'none'}"
        )
    other = copy(retriever)
    other.index = index_of_name(setting_name(retriever.index.label), {**known, **params})
    return other
