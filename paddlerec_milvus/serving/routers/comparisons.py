# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Why an item is a candidate, and other lists to set beside the one that is served."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Depends, HTTPException, Request, Response

from paddlerec_milvus.serving.alternatives import alternative, alternatives
from paddlerec_milvus.serving.auth import Role, needs
from paddlerec_milvus.serving.comparison_schemas import (
    AlternativeAnswer,
    AlternativeRequest,
    AlternativesAnswer,
    ExplainAnswer,
    ExplainRequest,
)
from paddlerec_milvus.serving.dependencies import service_of, serving_of
from paddlerec_milvus.serving.explanation import explanation
from paddlerec_milvus.serving.schemas import request_body
from paddlerec_milvus.serving.validation import (
    InvalidRequestError,
    body_of,
    parse_as,
    problem,
    read,
    wants_text,
)

router = APIRouter(dependencies=[Depends(needs(Role.READ))])


@router.post("/explain", openapi_extra={"requestBody": request_body(ExplainRequest)})
async def explain(request: Request) -> ExplainAnswer:
    """Why an item is a candidate of a history: what each interest gives it, and the clicks near it.

    404: no vector of it is stored.
    """
    service, as_text = service_of(request), wants_text(request)
    served = serving_of(service)
    kind = "string" if as_text else served.model.ids.kind
    body = await read(request, service.settings, ExplainRequest, kind)
    if len(body.hist_item) > (limit := service.settings.max_history):
        text, count = f"at most {limit:,} ids of a user", f"{len(body.hist_item):,}"
        raise InvalidRequestError([problem(("body", "hist_item"), text, "too_large", count)])
    metric = service.settings.model.retrieval.metric
    arguments = (served, body.hist_item, body.item, metric)
    answer = await service.within(partial(explanation, *arguments, as_text=as_text))
    if answer is None:
        raise HTTPException(404, f"item {body.item!r:.60} has no vector here")
    return answer


@router.get("/alternatives")
async def list_alternatives(request: Request) -> AlternativesAnswer:
    """What the list that is served can be compared with, beside exact search and popular items."""
    service = service_of(request)
    return await service.within(partial(alternatives, service.deployment, serving_of(service)))


@router.post(
    "/alternatives",
    response_model=AlternativeAnswer,
    openapi_extra={"requestBody": request_body(AlternativeRequest)},
)
async def other_list(request: Request) -> Response:
    """A user's list as another model or index gives it; nothing changes what is served.

    409: there is no such version, or no such parameter.
    """
    service, as_text = service_of(request), wants_text(request)
    served, settings = serving_of(service), service.settings
    body = await body_of(request, settings.max_body)
    kind = "string" if as_text else served.model.ids.kind
    arguments = (
        service.deployment,
        served,
        parse_as(AlternativeRequest, body, settings, kind),
        settings.model.retrieval.metric,
        settings.least_history,
    )
    answer = await service.within(partial(alternative, *arguments, as_text=as_text))
    return Response(answer.model_dump_json(), media_type="application/json")
