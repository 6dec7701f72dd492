# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Fetch a large file over HTTP: progress, resume of a cut download, a digest kept beside it."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from paddlerec_milvus.data.files import sha256_of, writing
from paddlerec_milvus.errors import DataError, SettingsError

_BLOCK = 1 << 18
_TIMEOUT = 60.0  # seconds without a byte
_IDLE_TRIES = 4  # tries in a row that bring nothing new


def fetch(url: str, folder: Path, pause: float = 2.0) -> Path:
    """Bring ``url`` into ``folder`` once, and check it ever after.

    A download that was cut goes on where it stopped, in this run or the next, unless the file
    has changed on the server. The SHA-256 of the first complete download is recorded in
    ``NAME.sha256``, in ``sha256sum``'s format, and compared whenever the file is used again. A
    file that was put there by hand is taken as the download.

    Args:
        pause: seconds before the first further try; doubled for each one that brings nothing.

    Raises:
        SettingsError: not an http or https address.
        DataError: the server refuses, the connection stays down, the digest differs, or another
            run is downloading the file.
    """
    if not url.startswith(("http://", "https://")):
        raise SettingsError(
            f"--url {url}: expected an address that starts with http:// or https://"
        )
    target = folder / url.rsplit("/", 1)[-1].split("?")[0]
    if target.exists():
        _check(target, target)
        return target
    with _alone(target):
        if not target.exists():
            partial = target.with_name(target.name + ".part")
            _download(url, partial, pause)
            _check(partial, target)
            partial.rename(target)
            _tag_file(partial).unlink(missing_ok=True)
    return target


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Held while ``target`` is downloaded; DataError: another run has it, or no place to write."""
    place = target.with_name(f".{target.name}.lock")
    lock = FileLock(place)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(f"{target}: another run is downloading it; wait for it to end") from None
    except OSError as error:
        raise DataError(f"cannot write {target}: {error.strerror}") from None
    try:
        yield
        place.unlink(missing_ok=True)  # not after a failure, when the next run needs it to be one
    finally:
        lock.release()


def _check(file: Path, target: Path) -> None:
    """Compare ``file`` with the recorded digest, or record it when it is the first."""
    record = target.with_name(target.name + ".sha256")
    digest = sha256_of(file)
    if not record.exists():
        with writing(record) as out:
            out.write(f"{digest}  {target.name}\n".encode())
        return
    recorded = record.read_text("utf-8").split()[:1]
    if recorded != [digest]:
        expected = recorded[0] if recorded else "nothing"
        raise DataError(
            f"{file}: its SHA-256 is {digest}, {record} says {expected}: damaged, or changed by "
            f"its publisher. Delete {file} to download it again; delete {record} as well to accept "
            "a new version"
        )


def _tag_file(partial: Path) -> Path:
    """Where the server's version tag of a partial download is kept."""
    return partial.with_name(partial.name + ".json")


def _recorded_tag(tag_file: Path, url: str) -> str | None:
    """The version tag of the partial download, None if it is another address's or unknown."""
    try:
        record = json.loads(tag_file.read_text("utf-8"))
        return str(record["tag"]) if record["url"] == url and record["tag"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _download(url: str, partial: Path, pause: float) -> None:
    idle = 0
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            if _continue(url, partial, before):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise DataError(f"{url}: the server answered {error.code} {error.reason}") from None
            reason = f"the server answered {error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        after = partial.stat().st_size if partial.exists() else 0
        idle = 0 if after > before else idle + 1
        if idle >= _IDLE_TRIES:
            raise DataError(
                f"{url}: {reason}, {after} bytes so far in {partial}; run the command again to go "
                "on from there"
            )
        time.sleep(pause * 2**idle)


def _continue(url: str, partial: Path, have: int) -> bool:
    """One request for what is missing; whether the file is whole now."""
    tag_file = _tag_file(partial)
    tag = _recorded_tag(tag_file, url)
    request = urllib.request.Request(url)
    if have and tag:
        # If-Range: the rest of the same version, or the whole of a new one
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag)
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)  # nosec B310 # http(s) alone
    except urllib.error.HTTPError as error:
        with error:
            size = (error.headers.get("Content-Range") or "").rpartition("/")[2]
        if error.code == 416 and size == str(have):
            return True
        if error.code == 416:
            partial.unlink()
            return False
        raise
    with response:
        appended = response.status == 206
        if not appended:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if not appended:
            with writing(tag_file) as out:
                out.write(json.dumps({"url": url, "tag": tag}).encode())
        _append(response, partial, have, total)
    return total is None or partial.stat().st_size >= total


def _append(
    response: http.client.HTTPResponse, partial: Path, have: int, total: int | None
) -> None:
    bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc="download", disable=None)
    with bar:
        try:
            file = partial.open("ab" if have else "wb")
        except OSError as error:
            raise DataError(f"cannot write {partial}: {error.strerror}") from None
        with file:
            while block := response.read(_BLOCK):
                try:
                    file.write(block)
                    file.flush()
                except OSError as error:  # not the connection: no further try helps
                    raise DataError(f"cannot write {partial}: {error.strerror}") from None
                bar.update(len(block))
