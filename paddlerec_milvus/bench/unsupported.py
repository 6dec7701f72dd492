# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A refusal of the index itself, told apart from a fault that may pass: it is tried on few rows.

Milvus refuses an index that it does not have, and by the same kind of error a full disk, a quota,
or a build that makes no end. The first is a result, and a row; all others are none. What tells them
apart is a trial, not the words of the message: the index is refused where Milvus, asked again for a
few rows, refuses it and builds FLAT.
"""

from __future__ import annotations

from dataclasses import replace

from paddlerec_milvus.bench.measure_build import Target
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.errors import RefusedError, RetrievalError
from paddlerec_milvus.retrieval.build import TRIAL_ROWS
from paddlerec_milvus.retrieval.indexes import Flat, Index
from paddlerec_milvus.retrieval.milvus import MilvusRetriever

AGAIN = (
    "what was measured so far stands, and the same command goes on from there; if it is refused "
    "each time, take that setting out of the sweep"
)


def check_build_refused(target: Target, workload: Workload, problem: RefusedError) -> None:
    """Return where ``target``'s index is what Milvus refuses; its collection is built over.

    RetrievalError, from ``problem``: Milvus builds it on a few rows, or not even FLAT.
    """
    try:
        _build_few(replace(target, index=Flat()), workload)
    except RetrievalError as error:
        raise RetrievalError(
            f"{problem}. FLAT on a few rows cannot be built either ({error}), so this is no matter "
            f"of the index; {AGAIN}"
        ) from problem
    try:
        _build_few(target, workload)
    except RefusedError:
        return
    raise RetrievalError(
        f"{problem}. On {min(TRIAL_ROWS, len(workload.ids)):,} rows the same index was built right "
        f"after, so this may pass; {AGAIN}"
    ) from problem


def _build_few(target: Target, workload: Workload) -> None:
    with target.connect() as retriever:
        retriever.versions.build(workload.vectors[:TRIAL_ROWS], workload.ids[:TRIAL_ROWS])
        retriever.open()
        retriever.search(workload.queries[:1], 1)


def check_search_refused(
    retriever: MilvusRetriever, index: Index, workload: Workload, k: int, problem: RefusedError
) -> None:
    """Return where Milvus refuses the search parameters of ``index``.

    RetrievalError, from ``problem``: asked again it answers, or it does not even search with the
    parameters that it takes by itself.
    """
    one = workload.queries[:1]
    try:
        retriever.search_with(Flat(), one, k)  # names no parameter
    except RetrievalError as error:
        raise RetrievalError(
            f"{problem}. A search without parameters is not answered either ({error}), so this is "
            f"no matter of the parameters; {AGAIN}"
        ) from problem
    try:
        retriever.search_with(index, one, k)
    except RefusedError:
        return
    raise RetrievalError(
        f"{problem}. Asked again for one vector it answered, so this may pass; {AGAIN}"
    ) from problem
