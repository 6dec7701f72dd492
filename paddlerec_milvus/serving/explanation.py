# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Why an item is a candidate: the score of each interest, and the clicks that lie near it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from paddlerec_milvus.data.histories import pad_histories
from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.serving.comparison_schemas import ExplainAnswer, NearClick
from paddlerec_milvus.serving.deployment import ServedVersion
from paddlerec_milvus.serving.item_ids import NamedItems

NEAR = 5  # clicks in an explanation


def explanation(
    served: ServedVersion,
    history: Sequence[OwnId],
    item: OwnId,
    metric: str,
    *,
    as_text: bool = False,
) -> ExplainAnswer | None:
    """What ``served`` says of ``item`` for a user with ``history``; None: it is not stored.

    ``metric`` is that of the index, in which the scores are; ``as_text``: ids are strings.
    Errors are the retriever's.
    """
    model, maxlen = served.model, served.model.tower.maxlen
    ids = model.ids.written(as_text=as_text)
    numbers = ids.numbers(history)
    model.ids.resolve(model.ids.unresolved(numbers))
    clicks = list(zip(numbers, history, model.ids.known(numbers), strict=True))
    unknown = [own for _, own, row in clicks if not row]
    known = [click for click in clicks if click[2]][-maxlen:]
    own_ids = {click: own for click, own, _ in known}
    (number,) = ids.numbers([item])
    vectors = stored_vectors(served, [number, *own_ids])
    if number not in vectors:
        return None
    if not known:
        return ExplainAnswer(item=item, interest=None, scores=[], clicks=[], unknown=unknown)
    interests = model.tower.interests(*pad_histories([[row for *_, row in known]], maxlen))[0]
    near = _nearest(vectors[number], {one: vectors[one] for one in own_ids if one in vectors})
    by_interest = ExactRetriever(interests, metric=metric)
    queries = np.stack([vectors[number], *(vectors[click] for click, _ in near)])
    by_score = by_interest.search(queries, len(interests))
    return ExplainAnswer(
        item=item,
        interest=int(by_score.ids[0, 0]),
        scores=by_score.scores[0, np.argsort(by_score.ids[0])].tolist(),
        clicks=[
            NearClick(
                id=own_ids[click],
                title=model.catalogue.titles.get(click),
                similarity=similarity,
                interest=interest,
            )
            for (click, similarity), interest in zip(
                near, by_score.ids[1:, 0].tolist(), strict=True
            )
        ],
        unknown=unknown,
    )


def stored_vectors(served: ServedVersion, numbers: Sequence[int]) -> Mapping[int, FloatArray]:
    """Vectors [D] of the items ``numbers``: as they are stored, or where nobody tells the model's.

    An item that has none is not among them.
    """
    if isinstance(served.retriever, NamedItems):
        return served.retriever.stored_vectors(list(dict.fromkeys(numbers)))
    table = served.model.tower.item_vectors()
    return {number: table[number] for number in numbers if 0 < number < len(table)}


def _nearest(item: FloatArray, clicks: Mapping[int, FloatArray]) -> list[tuple[int, float]]:
    """The clicks nearest to ``item`` [D] and their cosines, nearest first."""
    if not clicks:
        return []
    retriever = ExactRetriever(np.stack(list(clicks.values())), metric="COSINE")
    hits, numbers = retriever.search(item[None], min(NEAR, len(clicks))), list(clicks)
    pairs = zip(hits.ids[0].tolist(), hits.scores[0].tolist(), strict=True)
    return [(numbers[place], similarity) for place, similarity in pairs]
