# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the service answers is what tools/infer.py measures: item for item, for 1,000 users."""

from __future__ import annotations

import numpy as np
import pytest
from running_service import running

from paddlerec_milvus.command import settings_for
from paddlerec_milvus.data.cli import main as prepare
from paddlerec_milvus.evaluation.evaluator import Evaluation
from paddlerec_milvus.evaluation.users import Search, Stopwatch

USERS, TOP_N = 1_000, 50


@pytest.fixture(scope="module")
def many_users(tmp_path_factory):
    """A log of the same items with 1,000 test users."""
    folder = tmp_path_factory.mktemp("many") / "data"
    size = ["--users", str(10 * USERS), "--items", "300", "--clicks", "120000"]
    assert prepare(["--sample", *size, "--out", str(folder)]) == 0
    return folder


@pytest.mark.server
@pytest.mark.parametrize("exclude", [False, True])
def test_online_is_offline(server, make_settings, many_users, exclude):
    options = [
        f"milvus.uri={server.uri}",
        "milvus.collection=online",
        *("index.type=HNSW", "index.ef=64", f"retrieval.exclude_history={exclude}"),
    ]
    settings = make_settings(*options)
    offline = Evaluation(
        settings_for(settings.source.yaml, settings.source.options, many_users), TOP_N
    )
    offline.encoder.load(settings.found.checkpoint)
    histories = [items.tolist() for items in offline.users.history_list()]
    assert len(histories) == USERS
    with running(settings) as service:
        assert service.http.post("/insert").status_code == 200
        with offline._milvus() as retriever:
            search = Search(retriever, offline.encoder.item_vectors(), "IP", TOP_N)
            expected, _ = offline._candidates(search, offline.queries, Stopwatch())
        asked = {"top_k": TOP_N, "exclude_history": exclude}
        online: list[list[int]] = []
        for start in range(0, USERS, 100):
            part = service.candidates(*histories[start : start + 100], **asked)
            online += part["candidates"]
        np.testing.assert_array_equal(online, expected)
        alone = [service.candidates(each, **asked)["candidates"][0] for each in histories[:100]]
        np.testing.assert_array_equal(alone, expected[:100])
        service.http.post("/delete")
