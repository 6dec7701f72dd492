# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Requests that nobody would write, sent to a service in the test's process."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import httpx
import pytest
import requests
import schemathesis
from fuzzing import *  # noqa: F403  # the tests
from fuzzing import LONG, Target
from in_process import ITEMS, in_process_app

pytestmark = pytest.mark.timeout(7_200 if LONG else 300)


class Application(Target):
    def call(self, case: schemathesis.Case) -> httpx.Response:
        sent = requests.Request(**case.as_transport_kwargs(base_url=self.url)).prepare()
        headers = {
            name.encode("latin-1"): value if isinstance(value, bytes) else value.encode("latin-1")
            for name, value in sent.headers.items()
        }
        return self.http.request(sent.method, sent.url, headers=headers, content=sent.body)


class Errors(logging.Handler):
    """What is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture(scope="module")
def target() -> Iterator[Application]:
    errors, logger = Errors(), logging.getLogger("paddlerec_milvus")
    logger.addHandler(errors)
    with in_process_app(timeout=30.0) as started:
        target = Application(started.url, started.http, ITEMS)
        yield target
        assert not [status for status in target.requests() if status >= "5"]
    logger.removeHandler(errors)
    assert not [record.getMessage() for record in errors.records]
