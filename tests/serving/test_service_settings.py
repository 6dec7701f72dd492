# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Settings from the environment, and ``uvicorn main:app`` as a program."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from running_service import READER, status_of_a_long_head, until
from support import ROOT

from paddlerec_milvus.errors import CheckpointError, SettingsError, UserError
from paddlerec_milvus.serving.settings import settings_from_environment
from paddlerec_milvus.trained_model import checkpoint_of

pytestmark = pytest.mark.slow


def checkpoints(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "rec.pdparams").write_bytes(b"")
    return folder


def test_the_checkpoint_is_the_one_asked_for_else_the_best_else_the_last(tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoint; train one"):
        checkpoint_of(tmp_path, "")
    checkpoints(tmp_path, "2", "10")
    assert checkpoint_of(tmp_path, "").name == "10"
    assert checkpoint_of(tmp_path, "2").name == "2"
    with pytest.raises(CheckpointError, match=r"'best' is no epoch of .*; it holds: 10, 2"):
        checkpoint_of(tmp_path, "best")
    checkpoints(tmp_path, "best")
    assert checkpoint_of(tmp_path, "").name == "best"


def test_the_environment_is_read(environment, trained):
    settings = settings_from_environment(
        environment
        | {
            "SERVING_TIMEOUT": "0.5",
            "SERVING_MAX_USERS": "7",
            "SERVING_KEYS": f"read:{READER}",
            "SERVING_HISTORIES": "rediss://:sesame@cache:6380/1",
            "SERVING_HISTORY_DAYS": "0.5",
        }
    )
    assert settings.histories.get_secret_value() == "rediss://:sesame@cache:6380/1"
    assert settings.history_days == 0.5
    assert "sesame" not in repr(settings)
    assert settings.timeout == 0.5
    assert settings.max_users == 7
    assert settings.checkpoint == trained.checkpoints / "best"
    assert settings.model.hyper_parameters["item_count"] == 301


def test_no_dump_of_the_settings_shows_a_key_or_a_token(environment):
    environment["SERVING_OPTIONS"] += " milvus.token=root:s3cret"
    secret = {"SERVING_SHOWN_USERS": "hashed", "SERVING_SHOWN_SECRET": "s3cret of the hash"}
    keys = {"SERVING_KEYS": f"read:{READER}", "SERVING_SHOWN_LOG": ""}
    settings = settings_from_environment(environment | keys | secret)
    assert settings.shown_log is None
    assert settings.newest().settings.milvus.token.get_secret_value() == "root:s3cret"
    for shown in (repr(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert READER not in shown
        assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SERVING_TIMOUT", "1", "no such variable .did you mean 'SERVING_TIMEOUT'"),
        ("SERVING_HISTORIES", "rediss//:sesame@cache", "SERVING_HISTORIES: expected 'milvus' or"),
        ("SERVING_HISTORY_DAYS", "0", "SERVING_HISTORY_DAYS: '0': Input should be greater than 0"),
        ("SERVING_TIMEOUT", "0", "SERVING_TIMEOUT: '0': Input should be greater than 0"),
        ("SERVING_MAX_USERS", "many", "SERVING_MAX_USERS: 'many'"),
        ("SERVING_MAX_TOP_K", "20000", "SERVING_MAX_TOP_K: '20000'"),
        ("SERVING_EPOCH", "9", "SERVING_EPOCH: '9' is no epoch"),
        ("SERVING_YAML", "nosuch/config.yaml", "nosuch/config.yaml"),
        ("SERVING_HOSTS", "shop.example,http://x", "SERVING_HOSTS: .*http://x"),
        ("SERVING_METRICS", "off", "SERVING_METRICS: 'off': Input should be 'open' or 'closed'"),
        ("SERVING_SHADOW", "on", "SERVING_SHADOW: 'on': Input should be 'off', 'unranked', 'rank"),
        ("SERVING_SHADOW", "ranked", "SERVING_SHADOW: is logged .* set SERVING_SHOWN_LOG"),
        ("SERVING_SHOWN_USERS", "hashed", "=hashed: set SERVING_SHOWN_SECRET, 16 characters"),
        ("SERVING_KEYS", "read:short", "entry 1: a key has at least 16 characters"),
    ],
)
def test_what_is_wrong_with_the_environment_is_told(environment, variable, value, message):
    with pytest.raises((SettingsError, UserError), match=message):
        settings_from_environment(environment | {variable: value})


@pytest.mark.parametrize(("given", "inserts"), [("", True), ("1", True), ("0", False)])
def test_the_program_inserts_at_its_start_unless_told(environment, monkeypatch, given, inserts):
    program = importlib.import_module("paddlerec_milvus.serving.__main__")
    served: list[bool] = []
    monkeypatch.delenv("SERVING_INSERT_MISSING", raising=False)
    if given:
        environment["SERVING_INSERT_MISSING"] = given
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)

    def serve(host: str, port: int, environment: dict[str, str]) -> None:
        served.append(settings_from_environment(environment).insert_missing)

    monkeypatch.setattr(program, "run", lambda work: work())
    monkeypatch.setattr(program, "_serve", serve)
    program.main([])
    assert served == [inserts]


def uvicorn(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "uvicorn", *arguments, "main:app"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_uvicorn_starts_it_and_ends_it_in_order(environment, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    uri = str(tmp_path / "milvus.db")
    process = uvicorn(
        ROOT / "serving", "--port", str(port), PYTHONPATH=str(ROOT), MILVUS_URI=uri, **environment
    )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(f"{url}/healthz").status_code == 200
        except httpx.HTTPError:
            return False

    try:
        until(answers, 60)
        assert httpx.post(f"{url}/insert", timeout=60).json()["inserted"] == 300
        found = httpx.post(f"{url}/candidates", json={"hist_item": [[3]]}).json()
        assert found["source"] == ["model"]
        assert status_of_a_long_head(url) == 431
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert '"path": "/candidates", "status": 200' in log
    assert "Application shutdown complete" in log
    assert "Traceback" not in log
    assert "this server is not uvicorn" not in log


def test_uvicorn_on_addresses_of_others_needs_keys(environment, tmp_path):
    arguments = ("--host", "0.0.0.0", "--app-dir", str(ROOT / "serving"))
    process = uvicorn(tmp_path, *arguments, PYTHONPATH=str(ROOT), **environment)
    _, log = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "error: --host 0.0.0.0: others can reach this service, and it has no keys" in log
    assert "Traceback" not in log


def test_workers_are_warned_of_what_metrics_they_give(environment):
    """Each worker reads what uvicorn was started with; the settings are wrong, so it ends there."""
    code = "import sys; sys.argv[1:] = ['--workers', '2']; import paddlerec_milvus.serving.main"
    values = {**os.environ, "PYTHONPATH": str(ROOT), **environment, "SERVING_EPOCH": "9"}
    ended = subprocess.run([sys.executable, "-c", code], env=values, capture_output=True, text=True)
    assert "one of 2 worker processes: each counts for itself" in ended.stderr
    assert "'9' is no epoch" in ended.stderr


def test_options_that_no_shell_would_take(environment):
    with pytest.raises(SettingsError, match="SERVING_OPTIONS: No closing quotation; it holds KEY="):
        settings_from_environment(environment | {"SERVING_OPTIONS": "milvus.token='s3cret"})


def test_a_missing_checkpoint_is_one_line(environment, tmp_path):
    options = f"runner.infer_load_path={tmp_path}"
    environment["SERVING_OPTIONS"] += " " + options
    process = uvicorn(
        tmp_path, "--app-dir", str(ROOT / "serving"), PYTHONPATH=str(ROOT), **environment
    )
    _, log = process.communicate(timeout=60)
    assert process.returncode != 0
    assert f"error: {tmp_path}: holds no checkpoint; train one" in log
    assert "Traceback" not in log


def test_a_start_that_is_refused_is_one_line_without_secrets(environment, tmp_path):
    """The checkpoint is damaged: found, and not readable when the service starts."""
    broken = tmp_path / "out" / "0"
    broken.mkdir(parents=True)
    (broken / "rec.pdparams").write_bytes(b"no checkpoint")
    environment["SERVING_OPTIONS"] += f" runner.infer_load_path={tmp_path / 'out'}"
    environment["MILVUS_URI"] = "http://root:secret@127.0.0.1:1"
    process = uvicorn(
        tmp_path, "--app-dir", str(ROOT / "serving"), PYTHONPATH=str(ROOT), **environment
    )
    _, log = process.communicate(timeout=60)
    assert process.returncode == 3
    assert f"error: {broken / 'rec.pdparams'}: cannot be read as a checkpoint" in log
    assert "Traceback" not in log
    assert "secret" not in log
