# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""An update that goes on, or back, after somebody has changed the folder or the service."""

from __future__ import annotations

import shutil

import pytest
from export_of_a_day import Days

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.serving.client import ServiceError
from paddlerec_milvus.serving.schemas import InsertAnswer
from paddlerec_milvus.update import updating
from paddlerec_milvus.update.run_state import FinishedStep, UpdateRun, opened_run
from paddlerec_milvus.update.served_model import ServiceReplicas
from paddlerec_milvus.update.traffic import Traffic
from paddlerec_milvus.update.updating import Update, tidy, update

URL = "http://shop.example"
NOW = {URL: Traffic(requests=7)}
DONE = FinishedStep(ended="", seconds=0.0, result="before")


class Shop(ServiceReplicas):
    """A service without a network that answers by the model ``key``; it takes no insert."""

    def __init__(self, key: str, problem: str = "") -> None:
        super().__init__([URL], "")
        self.key, self.problem = key, problem

    def served(self) -> str:
        if self.problem:
            raise ServiceError(self.problem)
        return self.key

    def traffic(self) -> dict[str, Traffic]:
        return NOW

    def insert(self) -> InsertAnswer:
        raise ServiceError("no insert")


def stopped_run(days: Days, **changes: object) -> UpdateRun:
    """The run of ``days`` after its gate, with ``changes``; there is an export ``three``, too."""
    days.plan(URL)
    shutil.copytree(days.one.checkpoint, days.exports.folder / "three")
    run, _ = opened_run(days.exports, days.state().command)
    run.state.traffic = {}
    run.state.steps["gate"] = DONE
    for name, value in changes.items():
        setattr(run.state, name, value)
    run.write()
    return run


def update_of(days: Days, run: UpdateRun, shop: Shop) -> Update:
    return Update(days.plan(URL), days.exports, shop, run)


def test_a_link_that_was_moved_before_the_insert_is_compared_with(days: Days, capsys):
    run = stopped_run(days)
    days.exports.point("three")
    with Shop("old") as shop:
        update_of(days, run, shop).follow_current()
    state = days.state()
    assert (state.before, state.traffic) == ("three", NOW)
    assert list(state.steps) == ["train", "rank", "export"]
    assert "current was one and is three now" in capsys.readouterr().out


@pytest.mark.parametrize("export", ["one", "two"])
def test_a_link_as_the_run_knows_it_changes_nothing(days: Days, export):
    """That to its own export is of an update without a service, which was killed there."""
    run = stopped_run(days)
    days.exports.point(export)
    with Shop("old") as shop:
        update_of(days, run, shop).follow_current()
    assert (run.state.before, run.state.traffic, "gate" in run.state.steps) == ("one", {}, True)


def test_nor_does_one_that_was_moved_after_the_insert_began(days: Days):
    run = stopped_run(days, inserted_at={})
    days.exports.point("three")
    with Shop("old") as shop:
        update_of(days, run, shop).follow_current()
    assert run.state.before == "one"


def test_a_model_before_with_another_ranker_asks_for_one_of_its_kind(days: Days, monkeypatch):
    run = stopped_run(days)
    days.exports.point("three")
    kinds = {"two": None, "three": "din"}
    monkeypatch.setattr(updating, "ranker_kind", lambda export: kinds[export.checkpoint.name])
    with Shop("old") as shop:
        update_of(days, run, shop).follow_current()
    assert list(run.state.steps) == ["train"]


def test_what_somebody_else_has_changed_keeps_its_link(days: Days):
    run = stopped_run(days, leaving="worse", served="old")
    days.exports.point("two")
    with (
        Shop("other") as shop,
        pytest.raises(ServiceError, match=r"other serves, not .*somebody else has changed it"),
    ):
        update_of(days, run, shop).carried_out()
    assert days.exports.current == "two"


def test_killed_before_its_link_was_moved_back_it_is_moved(days: Days):
    run = stopped_run(days, leaving="worse", served="old")
    days.exports.point("two")
    with Shop("old") as shop:  # it has gone back
        assert update_of(days, run, shop).carried_out() == 4
    assert days.exports.current == "one"


def test_going_back_without_a_service_says_what_to_give(days: Days):
    plan = days.plan()  # the same command: services are no part of it
    stopped_run(days, leaving="worse", served="old")
    with pytest.raises(SettingsError, match="give its --service again"):
        update(plan, "")


def test_a_service_that_is_not_ready_is_told_nothing(days: Days):
    run = stopped_run(days)
    with (
        Shop("", "the service is not ready: Milvus is away") as shop,
        pytest.raises(ServiceError, match="Milvus is away; nothing was switched"),
    ):
        update_of(days, run, shop).carried_out()
    assert (days.exports.current, run.state.inserted_at) == ("one", None)


def test_what_served_before_is_not_forgotten(days: Days):
    """The item vectors were deleted since the first attempt, say."""
    run = stopped_run(days, served="old")
    with Shop("") as shop, pytest.raises(ServiceError, match="no insert"):
        update_of(days, run, shop).carried_out()
    assert (days.state().served, days.exports.current) == ("old", "one")


@pytest.mark.parametrize(("current", "is_there"), [("one", False), ("two", True)])
def test_what_a_kill_left_of_a_refused_export_goes_next_time(days: Days, current, is_there):
    run = stopped_run(days, outcome="refused")
    days.exports.point(current)
    tidy(days.exports, run, 3)
    assert (days.exports.folder / "two").exists() is is_there
