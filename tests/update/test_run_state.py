# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""States of earlier versions are read; one that is damaged is said to be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddlerec_milvus.errors import DataError
from paddlerec_milvus.update.exports_folder import ExportsFolder
from paddlerec_milvus.update.model_steps import ModelPlan
from paddlerec_milvus.update.run_state import states_of
from paddlerec_milvus.update.traffic import Traffic

URL = "http://127.0.0.1:8000"


def exports_with(folder: Path, traffic: object) -> ExportsFolder:
    state = {"name": "one", "command": "0", "traffic": traffic, "outcome": "switched"}
    file = folder / "runs" / "one" / "state.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(state))
    return ExportsFolder(folder)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (None, None),
        ({URL: {"requests": 3.0}}, {URL: Traffic(requests=3)}),
        (Traffic(requests=3).model_dump(), {}),  # a sum of all services
    ],
)
def test_traffic_is_by_service_and_that_of_earlier_versions_is_none(tmp_path, written, expected):
    assert [state.traffic for state in states_of(exports_with(tmp_path, written))] == [expected]


def test_a_damaged_state_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"state\.json: cannot be read: .*; remove its folder"):
        states_of(exports_with(tmp_path, 3))


def test_a_later_day_goes_on_with_the_run_of_an_earlier_one():
    def words(*preparing: str) -> list[str]:
        return ModelPlan("mind/config.yaml", (), None, Path("c.csv"), preparing).words()

    first = words("--split", "time", "--test-from", "2026-01-01", "--min-count", "5")
    assert first == words("--split", "time", "--test-from", "2026-01-02", "--min-count", "5")
    assert first != words("--split", "time", "--test-from", "2026-01-01", "--min-count", "6")
    assert words("--test-from=2026-01-01") == words("--test-from=2026-01-02")
