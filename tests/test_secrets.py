# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Milvus' password and token are in nothing that the program says."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import ROOT, mind_folder

from paddlerec_milvus.bench.sweep_config import read_sweep
from paddlerec_milvus.command import model_parser
from paddlerec_milvus.config import load_settings
from paddlerec_milvus.errors import RetrievalError, SettingsError, redacted
from paddlerec_milvus.evaluation.report import provenance
from paddlerec_milvus.retrieval import connection
from paddlerec_milvus.settings import split_credentials

SECRET = "a-s3cret/w@rd"
ADDRESS = f"http://root:{SECRET}@db.example:19530"


@pytest.fixture
def mind_yaml(tmp_path: Path) -> Path:
    return mind_folder(tmp_path / "mind")


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        (ADDRESS, ("http://db.example:19530", f"root:{SECRET}")),
        ("https://key@db.example/books", ("https://db.example/books", "key")),
        ("http://db.example:19530", ("http://db.example:19530", "")),
        ("unix:///run/a@b", ("unix:///run/a@b", "")),
        ("/home/a@b/milvus.db", ("/home/a@b/milvus.db", "")),
    ],
)
def test_credentials_are_taken_out_of_an_address(uri, parts):
    assert split_credentials(uri) == parts


@pytest.mark.parametrize("by", ["option", "variable", "yaml"])
def test_settings_hold_them_as_a_token_that_no_dump_shows(mind_yaml, monkeypatch, by):
    options = []
    if by == "option":
        options = [f"milvus.uri={ADDRESS}"]
    elif by == "variable":
        monkeypatch.setenv("MILVUS_URI", ADDRESS)
    else:
        text = mind_yaml.read_text() + f"\nmilvus:\n  uri: {ADDRESS}\n"
        mind_yaml.write_text(text)
    settings = load_settings(mind_yaml, options)
    assert settings.milvus.uri == settings.milvus_uri == "http://db.example:19530"
    assert settings.milvus.token.get_secret_value() == f"root:{SECRET}"
    shown = (repr(settings), settings.model_dump_json(), settings.dotted(), provenance(settings))
    assert SECRET not in str(shown)


def test_a_token_goes_before_the_addresss(mind_yaml):
    """As pymilvus has it."""
    settings = load_settings(mind_yaml, [f"milvus.uri={ADDRESS}", "milvus.token=other"])
    assert settings.milvus.token.get_secret_value() == "other"


@pytest.mark.parametrize(
    "option",
    [
        f"milvus.token:{SECRET}",
        f"token={SECRET}",
        f"uri={ADDRESS}",
        f"milvus.uri=[{ADDRESS}]",
        f"milvus.uri: {ADDRESS}",
        f"milvus.uri='{ADDRESS}",
        f"milvus.tokn={SECRET}",
        f"milvs.token={SECRET}",
        f"hyper_parameters.maxlen={ADDRESS}",
    ],
)
def test_an_override_that_is_refused_is_shown_without_them(mind_yaml, option):
    with pytest.raises(SettingsError) as raised:
        load_settings(mind_yaml, [option])
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    "text",
    [
        f"milvus:\n  token: '{SECRET}\n",
        f"milvus:\n  token: *{SECRET}\n",
        f"milvus:\n  token: !{SECRET}\n",
        f"milvus: {ADDRESS}\n",
        f"milvus:\n  uri: [{ADDRESS}]\n",
        f"uri={ADDRESS}\n",
    ],
)
def test_a_yaml_that_is_refused_is_shown_without_them(mind_yaml, text):
    mind_yaml.write_text(text)
    with pytest.raises(SettingsError) as raised:
        load_settings(mind_yaml)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


def test_arguments_that_are_refused_are_shown_without_them(capsys):
    with pytest.raises(SystemExit):
        model_parser("Train.", "").parse_args(["-m", "x", "-p", f"milvus.token={SECRET}", ADDRESS])
    assert "unrecognized arguments: -p milvus.token=… http://…@db" in capsys.readouterr().err


def test_words_without_a_secret_stay_as_they_are():
    for text in ("--server http://127.0.0.1:19530", "-o runner.epochs=3", "a@b", "tokens 3"):
        assert redacted(text) == text


@pytest.mark.parametrize("server", [ADDRESS, None])
def test_a_sweep_holds_none(tmp_path, server):
    """Its yaml is copied into the run's folder."""
    sweep = tmp_path / "sweep.yaml"
    options = "" if server else f", options: [milvus.token={SECRET}]"
    sweep.write_text(f"data:\n  checkpoint: {{name: x, model: mind/config.yaml{options}}}\n")
    changed = {"server": server} if server else {}
    with pytest.raises(SettingsError, match="a sweep holds no password and no token") as raised:
        read_sweep(sweep, **changed)
    assert "s3cret" not in str(raised.value)


class EchoingError(Exception):
    """A Milvus that repeats what it was sent."""


@pytest.mark.parametrize(
    "options", [{"uri": ADDRESS}, {"uri": "http://db", "token": f"a:{SECRET}"}]
)
def test_an_error_of_milvus_that_repeats_them(monkeypatch, options):
    def client(uri: str, *, token: str, **others: object) -> None:
        raise EchoingError(f"no user {token} at {uri}; {SECRET} is wrong")

    library = SimpleNamespace(MilvusClient=client, MilvusException=EchoingError)
    monkeypatch.setattr(connection, "_pymilvus", lambda: library)
    with pytest.raises(
        RetrievalError, match=r"refused 'connect': no user … at http://db"
    ) as raised:
        connection.Connection(**options)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


AWAY = f"http://root:{SECRET}@127.0.0.1:9"
TUNE = ["benchmarks/tune_index.py", "-m", "mind/config.yaml", "--recall", "0.9", "--server", AWAY]
SWEEP = ["benchmarks/index_benchmark.py", "-s", "benchmarks/sweeps/demo.yaml", "--server", AWAY]
COMMANDS = {
    "infer": ["tools/infer.py", "-m", "mind/config.yaml", "--data", "DATA", "-o", "OPTIONS"],
    "tune": [*TUNE, "--data", "DATA", "-o", "OPTIONS"],
    "sweep": SWEEP,
    "service": ["-m", "paddlerec_milvus.serving", "--port", "0"],
    "histories": ["-m", "paddlerec_milvus.serving.load_histories", "--data", "DATA"],
    "users": ["-m", "paddlerec_milvus.serving.migrate_users"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_says_them_while_milvus_is_away(trained, tmp_path, name):
    """Each ends and says where Milvus is; the service, which goes on, is ended."""
    options = [
        f"runner.infer_load_path={trained.checkpoints}",
        *("milvus.timeout=1", "runner.infer_start_epoch=0", "runner.infer_end_epoch=1"),
        "hyper_parameters.neg_samples=128",
    ]
    words = {"DATA": [str(trained.data)], "OPTIONS": options}
    command = [word for part in COMMANDS[name] for word in words.get(part, [part])]
    environment = {
        **os.environ,
        **{"OMP_NUM_THREADS": "1", "MILVUS_URI": AWAY, "PYTHONPATH": str(ROOT)},
        **{"SERVING_DATA": str(trained.data), "SERVING_KEPT": str(tmp_path / "kept")},
        "SERVING_OPTIONS": shlex.join(options),
    }
    log = tmp_path / "log"
    with log.open("w") as sink:
        program = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=sink, stderr=sink
        )
    end = time.monotonic() + 120
    try:
        while program.poll() is None and "ready: " not in log.read_text():
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
    finally:
        program.kill()
        program.wait()
    text = log.read_text()
    assert "s3cret" not in text
    assert "http://127.0.0.1:9" in text or name in ("sweep", "service"), text
