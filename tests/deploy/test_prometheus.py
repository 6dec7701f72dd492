# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""promtool's own checks, and a real Prometheus that scrapes a running service."""

from __future__ import annotations

import runpy
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from support import ROOT
from watched import DASHBOARD, PROMETHEUS, dashboard_expressions, loaded, rules

from ranked_calls import copy_of, recommended, train_small  # isort: skip  (watched adds its folder)
from running_service import Running, running, settings_of, until  # isort: skip

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]

ROUNDS = 60  # of requests of each kind: more than one in ten seconds, over five minutes


def tool(name: str) -> str:
    """The path of a program, or the test is skipped."""
    if (path := shutil.which(name)) is None:
        pytest.skip(f"no {name}: make deploy-check installs it")
    return path


@pytest.mark.parametrize("words", [("check", "rules", "alerts.yml"),
                                   ("test", "rules", "alerts_test.yml"),
                                   ("check", "config", "prometheus.yml")])  # fmt: skip
def test_promtool_is_content(words):
    done = subprocess.run(
        [tool("promtool"), *words], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout + done.stderr


def test_the_dashboard_is_what_its_script_makes():
    pytest.importorskip("grafana_foundation_sdk", reason="pip install '.[deploy]'")
    script = runpy.run_path(str(ROOT / "deploy" / "grafana" / "make_dashboard.py"))
    assert script["document"]() == DASHBOARD.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shop(trained, tmp_path_factory) -> Iterator[Running]:
    """A service on Milvus Lite, with vectors and a ranker."""
    folder = tmp_path_factory.mktemp("shop")
    copy = copy_of(trained, folder)
    train_small(settings_of(copy, folder).trained)
    settings = settings_of(
        copy, folder, recall_seconds=30.0, ranking_timeout=30.0, shown_log=folder / "shown"
    )
    with running(settings) as service:
        assert service.http.post("/insert").status_code == 200
        yield service


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[httpx.Client]:
    """Prometheus with the shipped files but for ``target`` and shorter intervals; its HTTP API."""
    config = loaded("prometheus.yml")
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(PROMETHEUS / "alerts.yml")]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = [tool("prometheus"), f"--config.file={folder / 'prometheus.yml'}"]
    words += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(words, stdout=log, stderr=log) as process,
        httpx.Client(base_url=f"http://{address}/api/v1") as api,
    ):
        try:
            until(lambda: is_up(api))
            yield api
        finally:
            process.terminate()


def is_up(api: httpx.Client) -> bool:
    """Whether Prometheus answers and has scraped the service."""
    try:
        answer = api.get("/query", params={"query": 'up{job="candidates"} == 1'})
    except httpx.TransportError:
        return False
    return answer.status_code == 200 and bool(answer.json()["data"]["result"])


def results(api: httpx.Client, expression: str) -> list[Any]:
    """The samples of an expression now that are numbers."""
    answer = api.get("/query", params={"query": expression})
    assert answer.status_code == 200, answer.text
    samples: list[Any] = answer.json()["data"]["result"]
    return [sample for sample in samples if sample["value"][1] != "NaN"]


def use(service: Running) -> None:
    """Lists, ranked lists, clicks and an item."""
    for number in range(ROUNDS):
        history = [1 + number, 43]
        service.candidates(history)
        recommended(service, history)
        body = {"items": history}
        assert service.http.post(f"/users/{number}/events", json=body).status_code == 200
    vector = [1.0] + [0.0] * (service.service.model.tower.dimension - 1)
    body = {"items": [{"id": 7, "vector": vector}]}
    assert service.http.post("/items", json=body).status_code == 200


def test_every_expression_has_a_result_of_a_running_service(shop, tmp_path):
    expressions = dashboard_expressions()
    with prometheus(tmp_path, shop.url.removeprefix("http://")) as api:
        use(shop)  # the series begin
        until(lambda: bool(results(api, 'serving_requests_total{route="/items"}')))
        use(shop)
        without: list[str] = []

        def complete() -> bool:
            without[:] = [name for name, text in expressions.items() if not results(api, text)]
            return not without

        try:
            until(complete)
        finally:
            print(f"{len(expressions)} expressions of the dashboard; without a result: {without}")
        recorded = [rule["record"] for rule in rules("record")]
        assert [name for name in recorded if not results(api, name)] == []

        until(lambda: all_evaluated(api))
        groups = api.get("/rules").json()["data"]["groups"]
        made = [rule for group in groups for rule in group["rules"]]
        assert len(made) == len(rules("record")) + len(rules("alert"))
        assert {rule["health"] for rule in made} == {"ok"}
        until(lambda: api.get("/alerts").json()["data"]["alerts"] == [])  # none pending either


def all_evaluated(api: httpx.Client) -> bool:
    groups = api.get("/rules").json()["data"]["groups"]
    return all(rule["health"] != "unknown" for group in groups for rule in group["rules"])
