# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Download, resume, checksum and reading of the tarball, against a server on this machine."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from filelock import FileLock

from paddlerec_milvus.data.amazonbook import read_tarball
from paddlerec_milvus.data.download import fetch
from paddlerec_milvus.data.sources import AmazonBook
from paddlerec_milvus.errors import DataError, SettingsError

LOGS = {
    "book_data/book_train.txt": b"0,3,0\n0,1,1\n1,2,0\n",
    "book_data/book_valid.txt": b"2,1,0\n2,2,1\n2,3,2\n2,4,3\n2,5,4\n",
    "book_data/book_test.txt": b"3,5,4\n3,4,3\n3,3,2\n3,2,1\n3,1,0\n",
    "book_data/book_item_map.txt": b"B00A,1\n000B,2\n000C,3\n000D,5\n",
}


def tarball(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


class Server(ThreadingHTTPServer):
    """Serves one body; ``cuts`` holds how many bytes each of the next answers may send."""

    body = b""
    tag = '"v1"'
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cuts: list[int] = []
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/files/AmazonBook.tar.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        body, start = self.server.body, 0
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        if wanted and self.headers.get("If-Range") == self.server.tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("ETag", self.server.tag)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        sent = self.server.cuts.pop(0) if self.server.cuts else len(body)
        self.wfile.write(body[start : start + sent])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        running.body = os.urandom(5000)
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_download_records_its_checksum_and_is_not_repeated(server: Server, tmp_path: Path) -> None:
    path = fetch(server.url, tmp_path, pause=0)
    assert path == tmp_path / "AmazonBook.tar.gz"
    assert path.read_bytes() == server.body
    digest = hashlib.sha256(server.body).hexdigest()
    assert (tmp_path / "AmazonBook.tar.gz.sha256").read_text() == f"{digest}  {path.name}\n"
    assert fetch(server.url, tmp_path, pause=0) == path
    assert server.asked == [None]
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, path.name + ".sha256"]


def test_a_cut_connection_is_resumed_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cuts = [1200, 800]
    assert fetch(server.url, tmp_path, pause=0).read_bytes() == server.body
    assert server.asked == [None, "bytes=1200-", "bytes=2000-"]


def test_the_next_run_resumes_too(server: Server, tmp_path: Path) -> None:
    server.cuts = [1200, 0, 0, 0, 0]
    with pytest.raises(DataError, match=r"1200 bytes so far .* run the command again"):
        fetch(server.url, tmp_path, pause=0)
    server.asked.clear()
    assert fetch(server.url, tmp_path, pause=0).read_bytes() == server.body
    assert server.asked == ["bytes=1200-"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    server.cuts = [1200, 0, 0, 0, 0]
    with pytest.raises(DataError):
        fetch(server.url, tmp_path, pause=0)
    server.body, server.tag = os.urandom(900), '"v2"'
    assert fetch(server.url, tmp_path, pause=0).read_bytes() == server.body


def test_a_partial_file_that_is_whole_already(server: Server, tmp_path: Path) -> None:
    server.cuts = [1200, 0, 0, 0, 0]
    with pytest.raises(DataError):
        fetch(server.url, tmp_path, pause=0)
    (tmp_path / "AmazonBook.tar.gz.part").write_bytes(server.body)
    assert fetch(server.url, tmp_path, pause=0).read_bytes() == server.body


def test_a_changed_file_is_refused(server: Server, tmp_path: Path) -> None:
    path = fetch(server.url, tmp_path, pause=0)
    path.write_bytes(b"x" + server.body[1:])
    with pytest.raises(DataError, match=r"SHA-256 is .* damaged, or changed by its publisher"):
        fetch(server.url, tmp_path, pause=0)
    path.unlink()  # the publisher now has other bytes than were recorded
    server.body = os.urandom(700)
    with pytest.raises(DataError, match="accept a new version"):
        fetch(server.url, tmp_path, pause=0)
    assert not path.exists()


def test_two_downloads_at_once(server: Server, tmp_path: Path) -> None:
    lock = FileLock(tmp_path / ".AmazonBook.tar.gz.lock")
    with lock, pytest.raises(DataError, match=r"tar\.gz: another run is downloading it"):
        fetch(server.url, tmp_path, pause=0)
    assert server.asked == []
    server.cuts = [1200, 0, 0, 0, 0]
    with pytest.raises(DataError, match="1200 bytes so far"):
        fetch(server.url, tmp_path, pause=0)
    assert fetch(server.url, tmp_path, pause=0).read_bytes() == server.body  # the lock was let go


def test_refusals_are_said_at_once(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(DataError, match="the server answered 404"):
        fetch(server.url, tmp_path, pause=0)
    assert len(server.asked) == 1
    server.status = 503
    with pytest.raises(DataError, match="503"):
        fetch(server.url, tmp_path, pause=0)
    assert len(server.asked) == 5  # a busy server is asked again
    with pytest.raises(SettingsError, match="http://"):
        fetch("ftp://host/file", tmp_path)


def test_no_server(tmp_path: Path) -> None:
    with Server() as closed:
        url = closed.url
    with pytest.raises(DataError, match="0 bytes so far"):
        fetch(url, tmp_path, pause=0)


def test_ids_and_split_of_the_tarball_are_kept(server: Server, tmp_path: Path) -> None:
    server.body = tarball({"book_data/readme": b"hello", **LOGS})
    dataset = AmazonBook(tmp_path, server.url).dataset(seed=1, min_count=5)
    assert dataset.train.user_ids.tolist() == [0, 1]
    assert dataset.train.items.tolist() == [3, 1, 2]
    assert dataset.valid.history.tolist() == [1, 2, 3, 4]
    assert dataset.test.history.tolist() == [1, 2, 3, 4]
    assert dataset.test.truths.tolist() == [5]
    assert dataset.items["item"].to_list() == [1, 2, 3, 4, 5]
    # the map lacks item 4, which keeps its number
    assert dataset.items["source_id"].to_list() == ["B00A", "000B", "000C", "4", "000D"]


def test_the_map_is_optional_and_the_logs_are_not(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(tarball({k: v for k, v in LOGS.items() if "map" not in k}))
    assert read_tarball(path).items["source_id"].to_list() == ["1", "2", "3", "4", "5"]
    path.write_bytes(tarball({k: v for k, v in LOGS.items() if "test" not in k}))
    with pytest.raises(DataError, match=r"holds no book_test\.txt"):
        read_tarball(path)
    path.write_bytes(tarball(LOGS | {"book_data/book_test.txt": b"1,2,3\n1,x,3\n"}))
    with pytest.raises(DataError, match=r"book_test\.txt, line 2"):
        read_tarball(path)
    path.write_bytes(tarball(LOGS | {"book_data/book_test.txt": b""}))
    with pytest.raises(DataError, match=r"book_test\.txt: no clicks"):
        read_tarball(path)
    path.write_bytes(tarball(LOGS | {"book_data/book_item_map.txt": b"x,y\n"}))
    with pytest.raises(DataError, match="expected asin,item lines"):
        read_tarball(path)


def test_no_name_in_the_archive_reaches_the_disk(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    path = inside / "a.tar.gz"
    path.write_bytes(tarball(LOGS | {"../outside": b"!", "/absolute": b"!"}))
    read_tarball(path)
    assert [p.name for p in tmp_path.iterdir()] == ["inside"]
    assert [p.name for p in inside.iterdir()] == ["a.tar.gz"]


def test_a_damaged_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(tarball(LOGS)[:-40])
    with pytest.raises(DataError, match="damaged gzip file"):
        read_tarball(path)
    path.write_bytes(b"no archive at all")
    with pytest.raises(DataError, match="not an archive"):
        read_tarball(path)
