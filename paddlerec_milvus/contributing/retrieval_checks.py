# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A trained folder through the rest of the program: measured, searched in Milvus, served."""

from __future__ import annotations

import asyncio
import math
from importlib.util import find_spec
from typing import Any

import numpy as np

from paddlerec_milvus.contributing.check_results import NotApplicableError
from paddlerec_milvus.contributing.trial import EPOCHS, Trial
from paddlerec_milvus.data.id_map import read_item_ids
from paddlerec_milvus.data.prepared import folder_above
from paddlerec_milvus.errors import ModelError, RetrievalError
from paddlerec_milvus.evaluation import forward_metrics
from paddlerec_milvus.evaluation.evaluator import Evaluation
from paddlerec_milvus.evaluation.predict import Search
from paddlerec_milvus.export.exporting import export_model
from paddlerec_milvus.forward import ForwardModel
from paddlerec_milvus.retrieval.base import MISSING_ID
from paddlerec_milvus.retrieval.candidates import search_users
from paddlerec_milvus.retrieval.milvus import retriever_from_settings
from paddlerec_milvus.trained_model import TrainedModel, checkpoint_of

TOP_N = 20
SERVED = 4  # users of the request


def evaluates(trial: Trial) -> str:
    """Every test user is measured, as tools/infer.py does."""
    if not trial.searched:
        report = forward_metrics.measure(ForwardModel(trial.settings))
        return " ".join(forward_metrics.table(report).split())
    result = Evaluation(trial.settings, TOP_N, exact=True).epochs()[str(EPOCHS - 1)]
    values = result.relevance.flat()
    if not all(math.isfinite(value) and value >= 0 for value in values.values()):
        raise ModelError(f"a metric is not a number: {values}")
    shown = ", ".join(f"{name} {value:.4f}" for name, value in list(values.items())[:2])
    return f"{result.users:,} users, {shown}"


def _exact_lists(trial: Trial) -> Any:
    settings = trial.settings
    search = Search.exactly(trial.encoder.item_vectors(), settings.retrieval.metric, TOP_N)
    return search_users(search.retriever, trial.vectors(), TOP_N).ids


def searches(trial: Trial) -> str:
    """Exact search in numpy and FLAT in Milvus Lite give the same lists, none with row 0."""
    trial.require_searched()
    table, exact = trial.encoder.item_vectors(), _exact_lists(trial)
    name = f"{trial.settings.milvus.collection}_checked"
    with retriever_from_settings(trial.settings, collection=name) as milvus:
        milvus.versions.build(table[1:], np.arange(1, len(table), dtype=np.int64))
        lists = search_users(milvus, trial.vectors(), TOP_N).ids
        if (stored := milvus.count()) != len(table) - 1:
            raise RetrievalError(f"Milvus holds {stored} items, expected {len(table) - 1}")
    for ids in (exact, lists):
        if (ids == 0).any():
            raise ModelError("a list holds item 0, which is padding and no item")
    overlap = [len(set(a) & set(b)) / len(set(a)) for a, b in zip(exact, lists, strict=True)]
    if np.mean(overlap) < 0.99:  # equal scores may stand in either order
        raise ModelError(
            f"Milvus Lite finds {np.mean(overlap):.1%} of the exact lists' items: many vectors "
            "have equal scores, or have no finite length"
        )
    return f"{len(lists)} users, top {TOP_N}: the same from numpy and Milvus Lite"


def serves(trial: Trial) -> str:
    """The service answers with the lists of the evaluation, by the log's own ids."""
    trial.require_searched()
    try:
        import httpx

        from paddlerec_milvus.serving.app import create_app
        from paddlerec_milvus.serving.settings import service_settings
    except ImportError as error:
        raise NotApplicableError(f"{error}: pip install 'paddlerec-milvus[serve]'") from None
    settings = service_settings(
        trial.yaml, trial.own_options, trial.data, str(EPOCHS - 1), registry=trial.place / "served"
    )
    names = read_item_ids(folder_above(trial.settings.path("test_data_dir")))
    queries = trial.queries[: min(SERVED, len(trial.queries.lengths))]
    clicks = [
        names.own_ids(row[:length].tolist())
        for row, length in zip(queries.histories, queries.lengths, strict=True)
    ]

    async def answer() -> Any:
        app = create_app(settings)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
        ):
            (await client.post("/insert", timeout=60)).raise_for_status()
            body = {"top_k": TOP_N, "hist_item": clicks, "exclude_history": False}
            reply = await client.post("/candidates", json=body, timeout=60)
            if reply.status_code != httpx.codes.OK:
                raise ModelError(f"POST /candidates: {reply.status_code}: {reply.text:.300}")
            return reply.json()

    lists = asyncio.run(answer())["candidates"]
    for row, (served, exact) in enumerate(zip(lists, _exact_lists(trial), strict=False)):
        wanted = names.own_ids(int(item) for item in exact if item != MISSING_ID)
        if len(set(served) & set(wanted)) < 0.99 * len(wanted):
            raise ModelError(
                f"the service's list of test user {queries.users[row]} is another than the "
                f"evaluation's: {served[:5]} …, expected {wanted[:5]} …"
            )
    return f"POST /insert and /candidates, {len(lists)} users: the evaluation's lists"


def exports(trial: Trial) -> str:
    """tools/export.py writes it, and the export gives the checkpoint's vectors."""
    trial.require_searched()
    if find_spec("paddle2onnx") is None:
        raise NotApplicableError("pip install 'paddlerec-milvus[export]'")
    folder = trial.settings.path("infer_load_path")
    trained = TrainedModel(trial.settings, checkpoint_of(folder, str(EPOCHS - 1)))
    manifest = export_model(trained, trial.place / "export").manifest
    return f"{manifest.users:,} users, largest difference {manifest.difference:.1e}"
