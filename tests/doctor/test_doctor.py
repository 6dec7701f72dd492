# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``paddlerec-milvus doctor``: what is not fine is said with what to do, and no token is shown."""

from __future__ import annotations

import errno
import sys
from collections import namedtuple
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from paddlerec_milvus.doctor import cli, machine_checks, milvus_checks, package_checks
from paddlerec_milvus.doctor.finding import Finding
from paddlerec_milvus.retrieval.server_files import free_ports

ASKED = [
    "numpy>=1.26",
    "polars>=1.20",
    "paddlepaddle<4,>=3.3; extra == 'train'",
    "visualdl>=2.5; extra == 'train'",
    "redis>=6; extra == 'redis'",
    "uvicorn>=0.30; extra == 'service'",
    "paddlerec-milvus[service]; extra == 'serve'",
    "milvus-lite>=3.2; extra == 'serve'",
]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Finding]]:
    """The findings for packages in these versions; others are not installed."""

    def findings(**versions: str) -> list[Finding]:
        known = {name.replace("_", "-"): text for name, text in versions.items()}

        def version(name: str) -> str:
            if name not in known:
                raise PackageNotFoundError(name)
            return known[name]

        monkeypatch.setattr(package_checks, "requires", lambda name: ASKED)
        monkeypatch.setattr(package_checks, "version", version)
        return list(package_checks.packages())

    return findings


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


def test_packages(installed) -> None:
    known = {"paddlerec_milvus": "0.1.0", "numpy": "2.4.1", "polars": "1.30"}
    rows = by_subject(installed(**known))
    assert rows["numpy"] == ("ok", "numpy", "2.4.1 (>=1.26)", "")
    assert rows["[train]"].state == "note"
    assert rows["[train]"].words == "not installed: paddlepaddle, visualdl"
    assert "pip install 'paddlerec-milvus[train]'" in rows["[train]"].remedy
    assert rows["[redis]"].state == "note"
    assert rows["[serve]"].words == "not installed: milvus-lite, uvicorn"  # those of [service], too
    assert "[bench]" not in rows  # an extra of no package here: nothing is said of it
    gpu = by_subject(installed(**known, paddlepaddle_gpu="3.3.0", visualdl="2.5.3"))
    assert gpu["[train]"].state == "ok"  # in place of paddlepaddle


def test_packages_that_do_not_do(installed) -> None:
    old = by_subject(
        installed(paddlerec_milvus="0.1.0", numpy="1.20", paddlepaddle="2.6.2", visualdl="2.5")
    )
    assert old["numpy"] == ("wrong", "numpy", "1.20 (>=1.26)", "pip install 'numpy>=1.26'")
    assert old["polars"].state == "wrong"
    assert old["paddlepaddle"].remedy == "pip install 'paddlepaddle<4,>=3.3'"
    assert [finding.state for finding in installed()] == ["wrong"]  # run from its files


Usage = namedtuple("Usage", "total used free")


def test_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine_checks, "CPU", info)
    monkeypatch.setattr(machine_checks.platform, "machine", lambda: "x86_64")
    states = {}
    for flags in ("sse4_2", "sse4_2 avx avx2", "avx avx2 avx512f"):
        info.write_text(f"model name\t: A\nflags\t\t: fpu {flags}\n")
        states[flags] = machine_checks.processor()
    assert [finding.state for finding in states.values()] == ["wrong", "note", "ok"]
    assert "AVX-512" in states["avx avx2 avx512f"].words
    for free, state in ((10**8, "wrong"), (10**9, "note"), (10**10, "ok")):
        usage = Usage(10**11, 0, free)
        monkeypatch.setattr(machine_checks.shutil, "disk_usage", lambda _, usage=usage: usage)
        assert machine_checks.disk(tmp_path).state == state
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine_checks, "CGROUP_LIMITS", (tmp_path / "none", limit))
    limit.write_text("max\n")
    assert "limit" not in machine_checks.memory().words
    limit.write_text(f"{2**29}\n")
    assert machine_checks.memory().state == "wrong"
    assert "a limit of 0.5 GiB" in machine_checks.memory().words


def test_working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert machine_checks.working_directory(tmp_path).state == "ok"
    assert list(tmp_path.iterdir()) == []

    def refused(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(machine_checks.tempfile, "TemporaryFile", refused)
    finding = machine_checks.working_directory(tmp_path)
    assert (finding.state, finding.words) == ("wrong", f"{tmp_path}: Read-only file system")


def test_lite_takes_and_finds_vectors() -> None:
    finding = milvus_checks.lite()
    assert finding.state == "ok", finding


def test_a_server_that_is_away_and_no_token_is_shown(tmp_path: Path) -> None:
    assert milvus_checks.server({}) is None
    uri = f"http://root:in-address@127.0.0.1:{free_ports(1)[0]}"
    for environment in ({"MILVUS_URI": uri}, {"MILVUS_URI": uri, "MILVUS_TOKEN": "a:in-token"}):
        finding = milvus_checks.server(environment)
        assert finding is not None
        assert finding.state == "wrong"
        assert "refuses connections" in finding.words
        assert "in-address" not in str(finding)
        assert "in-token" not in str(finding)
    file = milvus_checks.server({"MILVUS_URI": str(tmp_path / "x.db")})
    assert file is not None
    assert file.state == "ok"
    assert list(tmp_path.iterdir()) == []  # nothing is changed


@pytest.mark.server
def test_a_server_says_its_version(server) -> None:
    finding = milvus_checks.server({"MILVUS_URI": server.uri})
    assert finding is not None
    assert finding.state == "ok"
    assert finding.words.startswith(f"{server.uri}: Milvus v2.3.5")


def test_paddle_runs_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_checks, "PADDLE", "print(2.0, 'cpu')")
    assert package_checks.paddle() == ("ok", "paddle runs", "it computes on cpu", "")
    monkeypatch.setattr(package_checks, "PADDLE", "import os; os.kill(os.getpid(), 4)")
    ended = package_checks.paddle()
    assert ended is not None
    assert (ended.state, ended.words) == ("wrong", "ended by SIGILL")
    assert "[train]" in ended.remedy


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("note", 0), ("wrong", 1)])
def test_exit_codes(
    state: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def findings() -> list[Finding]:
        return [Finding(state, "memory", "1.0 of 2.0 GiB free", "close other programs")]  # type: ignore[arg-type]

    monkeypatch.setattr(cli, "findings", findings)
    assert cli.main([]) == code
    text = capsys.readouterr().out
    assert "→ close other programs" in text
    assert "\x1b" not in text  # no terminal
    assert text.splitlines()[-1] == ("to mend: memory" if code else "nothing is wrong")


def test_colors_on_a_terminal() -> None:
    assert cli.line_of(Finding("ok", "disk", "much"), colored=True).startswith("\x1b[32mok")


def test_without_core_packages_the_rest_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Finding("wrong", "psutil", "not installed (>=6.0)", "pip install 'psutil>=6.0'")
    monkeypatch.setattr(package_checks, "packages", lambda: iter([missing]))
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert [finding.subject for finding in cli.findings()] == ["psutil", "models", "the rest"]
