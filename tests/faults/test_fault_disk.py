# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""An insert on a full disk: the old version goes on serving, and the answer says what is wrong.

A 2.3.5 server does not live through a full disk: it ends as soon as its log cannot be written. With
space again it is started anew, and all that it had acknowledged is there.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from forked_service import ForkedService
from running_service import until

from paddlerec_milvus.retrieval.server import LocalMilvus

SIZE = "600m"  # an empty server takes 270 MB
SMALL = 64 << 10  # bytes; the vectors of an insert take more


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of its own; the test is skipped where this process may not mount one."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no right to mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> None:
    """Leave no byte free."""
    free = os.statvfs(place).f_bavail * os.statvfs(place).f_bsize
    with (place / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        os.posix_fallocate(filler.fileno(), 0, free)
        while True:
            filler.write(bytes(4096))


@contextlib.contextmanager
def no_space(service: ForkedService) -> Iterator[None]:
    """The service can write no file of more than SMALL bytes, as on a disk with no more left."""
    process = psutil.Process(service.process_id)
    before = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (SMALL, before[1]))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, before)


def test_lite_without_space_keeps_the_old_version(folder, tmp_path):
    environment = folder.environment(str(tmp_path / "milvus.db"), timeout=10.0)
    with ForkedService(environment, tmp_path / "log") as service:
        for epoch, place in ((1, "kept_faults"), (0, "Milvus")):
            # the first time the model's copy cannot be written, then the vectors cannot
            service.insert()
            folder.put(epoch)
            with no_space(service):
                refused = service.http.post("/insert")
                print(refused.status_code, refused.text)
                assert refused.status_code in (409, 503)
                assert place in refused.text
                assert "File too large" in refused.text
                assert service.lists() == folder.lists(1 - epoch)
        assert service.insert()["inserted"] == 300
        assert service.lists() == folder.lists(0)


@pytest.mark.server
def test_a_server_without_space_ends_and_comes_back(server_folder, folder, tmp_path):
    with (
        small_disk(server_folder) as disk,
        LocalMilvus(disk / "data") as milvus,
        ForkedService(folder.environment(milvus.uri), tmp_path / "log") as service,
    ):
        service.insert()
        fill(disk)
        folder.put(1)
        refused = service.http.post("/insert")
        print(refused.status_code, refused.text)
        assert refused.status_code == 503
        assert "did not answer" in refused.text
        until(lambda: service.status("/readyz") == 503)
        assert service.http.post("/candidates", json={"hist_item": [[3]]}).json()["source"] == [
            "fallback"
        ]
        (disk / "filler").unlink()
        milvus.stop()
        milvus.start()
        until(lambda: service.status("/readyz") == 200, 90)
        assert service.lists() == folder.lists(0)
        (server,) = psutil.Process(milvus.process_id).children()
        server.kill()  # an orderly stop takes ten seconds
