# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""An update from the gate on, against a service: switched, refused, taken back, stopped.

The export of the new day is there: the run stands where it was killed after that.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from export_of_a_day import WIDE, Days
from running_service import ADMIN, KEYS, WRITER, Running, running

from paddlerec_milvus.errors import DataError
from paddlerec_milvus.serving.client import ServiceError
from paddlerec_milvus.serving.schemas import InsertAnswer
from paddlerec_milvus.update.cli import main
from paddlerec_milvus.update.gate import INDEX_RECALL, MARGINS
from paddlerec_milvus.update.served_model import ServiceReplicas
from paddlerec_milvus.update.updating import Update, UpdatePlan, update


def digest(service: Running) -> str:
    return str(service.http.get("/readyz").json()["digest"])


def require_old(days: Days, service: Running) -> None:
    """All is as it was before."""
    assert (days.exports.current, digest(service)) == ("one", days.one.manifest.digest)
    assert service.candidates([3, 7])["source"] == ["model"]


def test_it_switches_and_says_so_last(days: Days, service: Running, capsys):
    assert update(days.plan(service.url), "") == 0
    assert (days.exports.current, digest(service)) == ("two", days.two.manifest.digest)
    out = capsys.readouterr().out
    assert "60 of 60 lists equal exact search's, index_recall 1.000" in out
    assert out.splitlines()[-1].startswith("switched: current is two: mind, epoch 0, ")
    steps = ["train", "rank", "export", "gate", "insert", "verify", "watch"]
    assert list(days.state().steps) == steps
    assert days.state().outcome == "switched"


def test_a_gate_that_fails_switches_nothing(days: Days, service: Running, capsys):
    assert update(days.plan(service.url, margins=MARGINS), "") == 3
    require_old(days, service)
    assert capsys.readouterr().out.splitlines()[-1].startswith("refused: recall@50 of the new")
    assert not (days.exports.folder / "two").exists()
    assert "insert" not in days.state().steps


def test_a_service_whose_index_finds_too_little_refuses(days: Days, capsys):
    with running(days.settings()) as service:
        service.http.post("/insert")
    with running(days.settings(least_recall=1.0)) as service:
        plan = days.plan(service.url)
        service.service.deployment.index.insert = _finds_little
        assert update(plan, "") == 3
        require_old(days, service)
    assert "true neighbours" in capsys.readouterr().out.splitlines()[-1]


def _finds_little(*_: object) -> None:
    from paddlerec_milvus.errors import RefusedError

    raise RefusedError("the new index finds 0.4 of the 50 true neighbours, less than 0.5")


@pytest.fixture
def troubled(service: Running, monkeypatch) -> None:
    """Once the new model is in, requests fall back."""
    fallbacks, insert = service.app.state.metrics.fallbacks, ServiceReplicas.insert

    def then_trouble(services: ServiceReplicas) -> InsertAnswer:
        answer = insert(services)
        for _ in range(30):
            service.candidates([3])
        fallbacks.labels("deadline").inc(10)
        return answer

    monkeypatch.setattr(ServiceReplicas, "insert", then_trouble)


def test_what_does_worse_is_taken_back(days: Days, service: Running, troubled, capsys):
    assert update(days.plan(service.url), "") == 4
    require_old(days, service)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("rolled back: fallbacks: ")
    assert f"{days.one.manifest.key} serves again" in last


@pytest.mark.slow
def test_lists_that_are_not_the_export_s_are_taken_back(days: Days, service: Running, monkeypatch):
    """The service has another item in the place of one, say."""
    monkeypatch.setattr("paddlerec_milvus.update.served_model.FOLLOW_SECONDS", 0.0)
    plan = days.plan(service.url, margins={**MARGINS, **WIDE, INDEX_RECALL: 1.0})
    insert = ServiceReplicas.insert

    def then_deleted(services):
        answer = insert(services)
        for item in (1, 2, 3):
            service.http.delete(f"/items/{item}")
        return answer

    monkeypatch.setattr(ServiceReplicas, "insert", then_deleted)
    assert update(plan, "") == 4
    require_old(days, service)
    assert "of what exact search finds" in days.state().reason


def stopped(*_: object) -> str:
    raise KeyboardInterrupt


def stop_at(step: str, plan: UpdatePlan, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Update, step, stopped)
        with pytest.raises(KeyboardInterrupt):
            update(plan, "")


@pytest.mark.slow
@pytest.mark.parametrize("step", ["_gate", "_insert", "_verify", "_watch"])
def test_stopped_anywhere_the_same_command_goes_on(days: Days, service: Running, monkeypatch, step):
    plan = days.plan(service.url)
    stop_at(step, plan, monkeypatch)
    if step in ("_gate", "_insert"):
        require_old(days, service)
    assert update(plan, "") == 0
    assert digest(service) == days.two.manifest.digest


@pytest.mark.slow
@pytest.mark.parametrize("step", ["_gate", "_insert", "_verify", "_watch"])
def test_where_the_state_cannot_be_written_the_same_command_goes_on(
    days: Days, service: Running, monkeypatch, step
):
    """As on a full disk."""
    plan, work = days.plan(service.url), getattr(Update, step)
    obstacle = days.exports.folder / "runs" / "two" / ".state.json.new"

    def then_full(self: Update) -> str:
        result: str = work(self)
        obstacle.mkdir()
        return result

    with monkeypatch.context() as patched:
        patched.setattr(Update, step, then_full)
        with pytest.raises(DataError, match=r"state\.json: cannot be written"):
            update(plan, "")
    if step == "_gate":
        require_old(days, service)
    obstacle.rmdir()
    assert update(plan, "") == 0
    assert (days.exports.current, digest(service)) == ("two", days.two.manifest.digest)


@pytest.mark.slow
def test_stopped_before_it_went_back_it_goes_back(
    days: Days, service: Running, troubled, monkeypatch
):
    plan = days.plan(service.url)
    stop_at("_go_back", plan, monkeypatch)
    assert digest(service) == days.two.manifest.digest
    assert update(plan, "") == 4
    require_old(days, service)


@pytest.mark.slow
def test_killed_after_the_service_has_switched_it_is_not_inserted_twice(days, service, capsys):
    plan = days.plan(service.url)
    days.exports.point("two")
    service.http.post("/insert")
    assert update(plan, "") == 0
    assert "insert: it serves already" in capsys.readouterr().out


@pytest.mark.slow
def test_an_insert_that_fails_leaves_link_and_service(days: Days, service: Running, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(ServiceReplicas, "insert", _away)
        with pytest.raises(ServiceError, match="did not answer /insert"):
            update(days.plan(service.url), "")
    require_old(days, service)
    assert update(days.plan(service.url), "") == 0


def test_an_index_that_milvus_lacks_leaves_link_and_service(days: Days, capsys):
    """And the same command goes on once the service has another one."""
    with running(days.settings()) as service:
        service.http.post("/insert")
    days.plan()
    words = ["-m", "mind/config.yaml", "--data", str(days.data), "--exports"]
    words += [str(days.exports.folder), "-o", "hyper_parameters.neg_samples=128", "--watch", "0"]
    words += ["--gate", *(f"{name}={change}" for name, change in WIDE.items()), "--service"]
    with running(days.settings("index.type=SCANN")) as service:
        assert main([*words, service.url]) == 1
        require_old(days, service)
    said = capsys.readouterr().err.splitlines()[-1]
    print(said)
    assert "index.type: SCANN " in said
    assert said.endswith("; the same command goes on")
    with running(days.settings()) as service:
        assert main([*words, service.url]) == 0
        assert digest(service) == days.two.manifest.digest


def _away(_: ServiceReplicas) -> None:
    raise ServiceError("the candidate service at … did not answer /insert: …. Is it running?")


def test_a_service_that_is_away(days: Days):
    with pytest.raises(ServiceError, match=r"did not answer /metrics.*Is it running\?"):
        update(days.plan("http://127.0.0.1:9"), "")
    assert days.exports.current == "one"


@pytest.mark.slow
def test_a_service_of_another_folder(days: Days, service: Running, one, two, trained, tmp_path):
    other = Days(tmp_path / "other", one, two, trained.data)
    with pytest.raises(ServiceError, match="it must be started with SERVING_EXPORT="):
        update(other.plan(service.url), "")
    assert other.exports.current == "one"
    assert digest(service) == one.manifest.digest


def test_a_key_below_admin_is_refused_before_anything_is_done(days: Days):
    with running(days.settings(keys=KEYS)) as service:
        plan = days.plan(service.url)
        for key, status in ((WRITER, 403), ("wrong-key-0123456789", 401), ("", 401)):
            with pytest.raises(ServiceError, match=f"with {status}: SERVING_KEY must hold"):
                update(plan, key)
        assert "gate" not in days.state().steps
        headers = {"X-API-Key": ADMIN}
        assert service.http.post("/insert", headers=headers).status_code == 200
        assert update(plan, ADMIN) == 0


def test_another_command_does_not_go_on_with_it(days: Days):
    plan = days.plan()
    other = replace(plan, model=replace(plan.model, options=("runner.epochs=9",)))
    with pytest.raises(DataError, match="began with another command"):
        update(other, "")


def test_without_a_service_the_link_alone_moves(days: Days, capsys):
    assert update(days.plan(), "") == 0
    assert days.exports.current == "two"
    assert "no --service" in capsys.readouterr().out


def test_stopped_before_it_says_that_it_refuses_it_says_so_the_next_time(days: Days, monkeypatch):
    plan = days.plan(margins=MARGINS)
    stop_at("_ended", plan, monkeypatch)
    assert update(plan, "") == 3
    assert not (days.exports.folder / "two").exists()
