# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The local Milvus server: where it listens, how it ends, what it says when it cannot run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from paddlerec_milvus.errors import RetrievalError
from paddlerec_milvus.retrieval import server_files
from paddlerec_milvus.retrieval.indexes import Hnsw
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.retrieval.server import LocalMilvus, arguments, main
from paddlerec_milvus.retrieval.supervisor import loopback_instead

VECTORS = np.eye(4, dtype=np.float32)
IDS = np.arange(1, 5)


def milvus_under(process_id: int) -> psutil.Process:
    """The server that this supervisor watches."""
    (child,) = psutil.Process(process_id).children()
    return child


def wait_until_gone(process: psutil.Process) -> None:
    psutil.wait_procs([process], timeout=30)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.server
@pytest.mark.skipif(sys.platform != "linux", reason="bound to loopback on Linux alone")
def test_listens_on_loopback_alone(server):
    assert server.process_id is not None
    ports = [
        each.laddr
        for each in milvus_under(server.process_id).net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    ]
    assert len(ports) >= 10
    assert {address.ip for address in ports} <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert server.port in {address.port for address in ports}


@pytest.mark.slow
@pytest.mark.server
def test_given_folder_is_kept_and_used_again_with_a_token(tmp_path):
    with LocalMilvus(tmp_path, authorization=True) as first:
        for token in ("", "root:wrong"):
            with pytest.raises(RetrievalError, match=r"refused the token.*milvus.token"):
                MilvusRetriever(first.uri, "items", token=token)
        with MilvusRetriever(first.uri, "items", token="root:Milvus", index=Hnsw()) as retriever:
            retriever.versions.build(VECTORS, IDS)
        supervisor = first.process_id
        assert supervisor is not None
        process = milvus_under(supervisor)
    wait_until_gone(process)
    with (
        LocalMilvus(tmp_path, authorization=True) as second,
        MilvusRetriever(second.uri, "items", token="root:Milvus", index=Hnsw()) as retriever,
    ):
        retriever.open(dimension=4, rows=4)
        assert retriever.search(VECTORS, 1).ids.ravel().tolist() == [1, 2, 3, 4]
        # the server dies under a retriever that is in use
        assert second.process_id is not None
        milvus_under(second.process_id).kill()
        start = time.monotonic()
        retriever._connection.timeout = 2
        with pytest.raises(RetrievalError, match=r"did not answer 'search'|refuses connections"):
            retriever.search(VECTORS, 1)
        assert time.monotonic() - start < 30


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_ends_with_its_parent(number, tmp_path):
    code = textwrap.dedent("""
        import time
        from paddlerec_milvus.retrieval.server import LocalMilvus
        with LocalMilvus() as server:
            print(server.process_id, server.folder, flush=True)
            time.sleep(600)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        supervisor, folder = parent.stdout.readline().split()
        watcher = psutil.Process(int(supervisor))
        process = milvus_under(int(supervisor))
        parent.send_signal(number)
        parent.wait(30)
    wait_until_gone(process)
    wait_until_gone(watcher)
    assert not Path(folder).exists()


@pytest.mark.server
def test_ends_with_its_supervisor():
    with LocalMilvus() as server:
        assert server.process_id is not None
        process = milvus_under(server.process_id)
        os.kill(server.process_id, signal.SIGKILL)
        wait_until_gone(process)


@pytest.mark.slow
@pytest.mark.server
def test_command_line_runs_until_ctrl_c():
    command = [sys.executable, "-m", "paddlerec_milvus.retrieval.server", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        first, second = run.stdout.readline(), run.stdout.readline()
        uri = second.strip().removeprefix("export MILVUS_URI=")
        assert f"Milvus is running at {uri}" in first
        with MilvusRetriever(uri, "items") as retriever:
            retriever.versions.build(VECTORS, IDS)
            assert retriever.count() == 4
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=60)
    assert run.returncode == 0
    assert "Milvus has ended." in errors
    assert "Traceback" not in errors


@pytest.mark.server
def test_port_in_use_and_folder_that_cannot_be(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["--port", str(taken.getsockname()[1])]) == 2
    assert "cannot be used for Milvus" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    with pytest.raises(RetrievalError, match="Give another folder"):
        LocalMilvus(tmp_path / "file" / "data").start()


@pytest.mark.server
def test_server_that_dies_or_never_gets_healthy_shows_its_log(tmp_path, monkeypatch):
    fake = tmp_path / "bin"
    fake.mkdir()
    program = fake / "milvus"
    program.write_text("#!/bin/sh\necho no space left on device; exit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr("paddlerec_milvus.retrieval.server.unpacked_binaries", lambda _: fake)
    with pytest.raises(RetrievalError, match=r"ended at its start(.|\n)*no space left on device"):
        LocalMilvus(tmp_path / "data").start()
    program.write_text("#!/bin/sh\necho waiting; exec sleep 600\n")
    with pytest.raises(RetrievalError, match=r"not healthy within 1 s(.|\n)*waiting"):
        LocalMilvus(tmp_path / "data", start_seconds=1).start()


@pytest.mark.server
def test_a_server_that_ends_by_itself_is_started_again_once_and_it_is_said(
    tmp_path, monkeypatch, capfd
):
    program = tmp_path / "bin" / "milvus"
    program.parent.mkdir()
    starts = tmp_path / "starts"
    program.write_text(f"#!/bin/sh\necho on stdout\necho >> {starts}\nsleep 0.3; exit 7\n")
    program.chmod(0o755)
    monkeypatch.setattr(
        "paddlerec_milvus.retrieval.server.unpacked_binaries", lambda _: program.parent
    )
    monkeypatch.setattr(LocalMilvus, "_healthy", lambda _: starts.exists())
    with (
        LocalMilvus(tmp_path / "data", restarts=1) as server,
        pytest.raises(RetrievalError, match=r"ended with status 7(.|\n)*on stdout"),
    ):
        server.wait()
    assert len(starts.read_text()) == 2
    said = "warning: the local Milvus server ended by itself (status 7): it is started again"
    assert capfd.readouterr().err.count(said) == 1


@pytest.mark.slow
@pytest.mark.server
def test_what_was_stored_is_there_after_the_servers_own_restart():
    with LocalMilvus(restarts=1) as server:
        with MilvusRetriever(server.uri, "items") as retriever:
            retriever.versions.build(VECTORS, IDS)
        assert server.process_id is not None
        process = milvus_under(server.process_id)
        process.kill()
        wait_until_gone(process)
        end = time.monotonic() + 120
        while True:
            try:
                with MilvusRetriever(server.uri, "items", timeout=5) as retriever:
                    retriever.open(rows=4)
                    assert retriever.search(VECTORS, 1).ids.ravel().tolist() == [1, 2, 3, 4]
                    break
            except RetrievalError:
                assert time.monotonic() < end
                time.sleep(1)


@pytest.mark.server
def test_unpacking_that_was_killed_is_done_again(tmp_path, monkeypatch):
    package = tmp_path / "package"
    (package / "bin").mkdir(parents=True)
    real = server_files.package_folder() / "bin" / "libatomic.so.1.lzma"
    (package / "bin" / "milvus.lzma").write_bytes(real.read_bytes())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfileobj", interrupted)
        with pytest.raises(KeyboardInterrupt):
            server_files.unpacked_binaries(package)
    folder = server_files.unpacked_binaries(package)
    assert os.access(folder / "milvus", os.X_OK)
    assert [each.name for each in folder.parent.iterdir()] == [folder.name]
    assert server_files.unpacked_binaries(package) == folder
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(RetrievalError, match="XDG_CACHE_HOME"):
        server_files.unpacked_binaries(package)


def test_missing_extra_names_the_install_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "milvus", None)
    assert main([]) == 2
    assert "pip install 'paddlerec-milvus[server]'" in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        arguments().parse_args(["--help"])
    shown = capsys.readouterr().out
    assert "export MILVUS_URI=" in shown
    assert "Ctrl-C" in shown


def test_addresses_that_the_supervisor_rewrites():
    any4 = bytes([2, 0, 0x4A, 0x38]) + bytes(12)
    assert loopback_instead(any4) == any4[:4] + bytes([127, 0, 0, 1]) + bytes(8)
    any6 = bytes([10, 0, 0x4A, 0x38]) + bytes(24)
    mapped = bytes(10) + b"\xff\xff" + bytes([127, 0, 0, 1])
    assert loopback_instead(any6) == any6[:8] + mapped + bytes(4)
    assert loopback_instead(any4[:4] + bytes([127, 0, 0, 1]) + bytes(8)) is None
    assert loopback_instead(bytes([1, 0]) + b"/run/socket") is None
