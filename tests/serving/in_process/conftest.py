# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Services in the test's process: nothing here needs paddle, Milvus or a port."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from in_process import SmallIndex, TinyEncoder, in_process_app
from running_service import Running

from paddlerec_milvus.errors import RetrievalError


class BreakableIndex(SmallIndex):
    """Its searches fail while ``is_away``."""

    is_away = False

    def search(self, *arguments, **options):
        if self.is_away:
            raise RetrievalError("the token s3cret was refused")
        return super().search(*arguments, **options)


@pytest.fixture(scope="session")
def service() -> Iterator[Running]:
    """One for tests that change nothing."""
    with in_process_app() as started:
        yield started


@pytest.fixture
def index() -> BreakableIndex:
    """What ``shop`` searches."""
    return BreakableIndex(TinyEncoder().item_vectors())


@pytest.fixture
def shop(index) -> Iterator[Running]:
    """One for tests that change items and users."""
    with in_process_app(index) as started:
        yield started
