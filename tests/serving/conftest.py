# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Services on the small trained MIND and Milvus Lite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from ranked_calls import copy_of, train_small
from running_service import Running, running, settings_of

from paddlerec_milvus.serving.settings import ServiceSettings

if TYPE_CHECKING:  # an import that only the page's tests need
    from playwright.sync_api import Browser


@pytest.fixture
def make_settings(trained, tmp_path) -> Callable[..., ServiceSettings]:
    return lambda *options, **others: settings_of(trained, tmp_path, *options, **others)


@pytest.fixture
def environment(trained, tmp_path) -> dict[str, str]:
    """Of a service as a program: the best epoch, FLAT."""
    return {
        "SERVING_DATA": str(trained.data),
        "SERVING_OPTIONS": f"runner.infer_load_path='{trained.checkpoints}' index.type=FLAT "
        "hyper_parameters.neg_samples=128",
        "SERVING_KEPT": str(tmp_path / "kept"),
    }


@pytest.fixture(scope="session")
def service(trained, tmp_path_factory) -> Iterator[Running]:
    """One with vectors, for tests that change nothing."""
    with running(settings_of(trained, tmp_path_factory.mktemp("service"))) as started:
        assert started.http.post("/insert").status_code == 200
        yield started


@pytest.fixture(scope="session")
def ranked(trained, tmp_path_factory) -> Any:
    """The trained MIND with a small ranker beside epoch 0."""
    folder = tmp_path_factory.mktemp("ranked")
    copy = copy_of(trained, folder)
    train_small(settings_of(copy, folder).trained)
    return copy


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from page_view import chromium

    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def books() -> Iterator[Running]:
    """One of the books of library.py, for tests that change nothing."""
    from library import library

    with library() as started:
        yield started


@pytest.fixture
def empty(make_settings) -> Iterator[Running]:
    """One without vectors, for tests that change what is stored."""
    with running(make_settings()) as started:
        yield started
