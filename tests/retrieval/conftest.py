# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The three places that retrieval runs in: numpy, Milvus Lite and a real server."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval.exact import normalised
from paddlerec_milvus.retrieval.milvus import MilvusRetriever

numbers = itertools.count(1)


def clustered(count: int, dimension: int, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Normalised vectors around common centres, as a model's are: [count, dimension] float32."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((50, dimension), dtype=np.float32)
    noise = random.standard_normal((count, dimension), dtype=np.float32)
    return normalised(centres[random.integers(0, 50, count)] + np.float32(0.7) * noise)


@pytest.fixture
def lite_uri(tmp_path: Path) -> str:
    return str(tmp_path / "milvus.db")


@pytest.fixture(params=["lite", pytest.param("server", marks=pytest.mark.server)])
def uri(request: pytest.FixtureRequest) -> str:
    """Milvus Lite and the real server, one after the other."""
    if request.param == "server":
        return str(request.getfixturevalue("server").uri)
    return str(request.getfixturevalue("lite_uri"))


@pytest.fixture
def make_retriever() -> Iterator[Callable[..., MilvusRetriever]]:
    """Makes retrievers on collections of their own (or a given one); drops and closes them."""
    made: list[MilvusRetriever] = []

    def make(uri: str, collection: str = "", **options: Any) -> MilvusRetriever:
        retriever = MilvusRetriever(uri, collection or f"items_{next(numbers)}", **options)
        made.append(retriever)
        return retriever

    yield make
    for retriever in made:
        with contextlib.suppress(RetrievalError):  # one test makes a foreign collection
            retriever.versions.drop()
        retriever.close()
