# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Two services on one Milvus: one takes clicks, the other refuses them, and no click is lost."""

from __future__ import annotations

import pytest
from forked_service import Folder, ForkedService
from running_service import until

pytestmark = [pytest.mark.server, pytest.mark.slow]


def click(service: ForkedService, item: int, user: int = 5) -> tuple[int, str]:
    answer = service.http.post(f"/users/{user}/events", json={"items": [item]})
    return answer.status_code, answer.text


def clicked(service: ForkedService, item: int, history: int) -> None:
    """The click is taken, after which the user has so many."""
    answers: list[tuple[int, str]] = []

    def is_taken() -> bool:
        answers.append(click(service, item))
        assert answers[-1][0] in (200, 503)  # 503: the collections are being loaded
        return answers[-1][0] == 200

    until(is_taken)
    assert f'"history":{history},' in answers[-1][1]


def test_a_second_writer_is_refused_until_the_first_is_gone(server, folder: Folder, tmp_path):
    environment = folder.environment(server.uri, "faults_writers", timeout=10.0)
    with ForkedService(environment, tmp_path / "one") as one:
        one.insert()
        with ForkedService(environment, tmp_path / "other") as other:
            clicked(one, 3, 1)
            for _ in range(3):
                status, text = click(other, 7)
                assert status == 409
                assert f"process {one.process_id} on " in text
                assert "SERVING_HISTORIES=redis://" in text
            assert other.http.delete("/users/5").status_code == 409
            assert other.lists() == folder.lists(0)  # it serves all the same
            clicked(one, 12, 2)
            one.kill()
            clicked(other, 20, 3)  # and what the first acknowledged is there
            one.start()
            assert click(one, 40)[0] == 409
        clicked(one, 41, 4)  # the other ended in order
        assert one.http.post("/delete").status_code == 200
