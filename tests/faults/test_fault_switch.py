# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A new model under load: no request fails, and no list is of two models.

Deadlines are long, so that a machine that stands still for seconds makes no popular items.
"""

from __future__ import annotations

import time

import pytest
from fault_table.steady_requests import SteadyRequests
from forked_service import HISTORIES, TOP_K, Folder, ForkedService
from running_service import until

pytestmark = pytest.mark.slow

BODIES = [{"hist_item": [history], "top_k": TOP_K} for history in HISTORIES]


def switched_under_load(service: ForkedService, folder: Folder, inserts: int) -> None:
    """Insert the other epoch, go back and forth, again and again; a list is of one epoch, whole."""
    of_epoch = [folder.lists(epoch) for epoch in (0, 1)]
    assert all(old != new for old, new in zip(*of_epoch, strict=True))
    service.insert()
    assert service.lists() == of_epoch[0]
    with SteadyRequests(service.url, BODIES) as asking:
        for turn in range(1, inserts + 1):
            folder.put(turn % 2)
            service.insert()
            assert service.lists() == of_epoch[turn % 2]
            for epoch in (1 - turn % 2, turn % 2) * 2:
                assert service.http.post("/rollback").status_code == 200
                assert service.lists() == of_epoch[epoch]
        switched = time.monotonic()
        until(lambda: len(asking.since(switched)) > 25)
    assert not asking.failed()
    seen = [tuple(answer.body["candidates"][0]) for answer in asking.answers]
    known = [{tuple(each) for each in of_epoch[epoch]} for epoch in (0, 1)]
    by_epoch = [sum(each in lists for each in seen) for lists in known]
    print(
        f"{len(seen)} requests over {5 * inserts} switches: {by_epoch[0]} lists of epoch 0, "
        f"{by_epoch[1]} of epoch 1, {len(seen) - sum(by_epoch)} of neither; longest "
        f"{asking.longest():.2f} s"
    )
    assert {answer.source for answer in asking.answers} == {"model"}
    assert sum(by_epoch) == len(seen)
    assert min(by_epoch) > 0


@pytest.mark.server
def test_models_are_switched_under_load_on_a_server(server, folder, tmp_path):
    environment = folder.environment(server.uri, "faults_switch", timeout=60.0)
    with ForkedService(environment, tmp_path / "log") as service:
        switched_under_load(service, folder, inserts=1)
        assert service.http.post("/delete").status_code == 200


def test_models_are_switched_under_load_on_lite(folder, tmp_path):
    environment = folder.environment(str(tmp_path / "milvus.db"), timeout=60.0)
    with ForkedService(environment, tmp_path / "log") as service:
        switched_under_load(service, folder, inserts=4)
