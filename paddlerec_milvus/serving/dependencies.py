# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the routers share."""

from __future__ import annotations

import math

from fastapi import Request

from paddlerec_milvus.data.id_map import Kind, OwnId
from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.connection import OWN_ID_BYTES
from paddlerec_milvus.serving.deployment import ServedVersion
from paddlerec_milvus.serving.item_ids import int_of
from paddlerec_milvus.serving.recommender import CandidateService
from paddlerec_milvus.serving.validation import InvalidRequestError, problem


def id_of(text: str, kind: Kind, place: tuple[str | int, ...]) -> OwnId:
    """The id that a path or a query holds; InvalidRequestError: none of this kind.

    A string must fit into a row of Milvus.
    """
    if kind == "int":
        number = int_of(text)
        if number is None:
            words = "an id here is an integer of 64 bits in its plain form, such as 7 or -7"
            raise InvalidRequestError([problem(place, words, "int_parsing", f"{text!r:.60}")])
        return number
    if not 0 < len(text.encode("utf-8", "replace")) <= OWN_ID_BYTES:
        words = f"an id here is a string of 1 to {OWN_ID_BYTES} bytes of UTF-8"
        raise InvalidRequestError([problem(place, words, "string_size", f"{text!r:.60}")])
    return text


def service_of(request: Request) -> CandidateService:
    """The service of the application that a request came to."""
    service: CandidateService = request.app.state.service
    return service


def serving_of(service: CandidateService) -> ServedVersion:
    """What serves; RetrievalError: nothing does."""
    if (served := service.current) is None:
        raise RetrievalError(service.health.state.reason)
    return served


def retry_after(request: Request) -> dict[str, str]:
    """The header of a 503: seconds until Milvus is looked at again."""
    return {"Retry-After": str(math.ceil(service_of(request).settings.check_seconds))}
