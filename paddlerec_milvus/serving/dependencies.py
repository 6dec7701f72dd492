# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the routers share."""

from __future__ import annotations

from fastapi import Request

from paddlerec_milvus.serving.recommender import CandidateService


def service_of(request: Request) -> CandidateService:
    """The service of the application that a request came to."""
    service: CandidateService = request.app.state.service
    return service
