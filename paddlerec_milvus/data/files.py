# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Files as this package reads and writes them: bytes in (plain or gz), hashed bytes out."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import polars as pl

from paddlerec_milvus.data.unpacking import UnpackedReader, require_unpacked
from paddlerec_milvus.errors import DataError

_BOM = b"\xef\xbb\xbf"
Record = dict[str, str | int]
_GZIP_MAGIC = b"\x1f\x8b"


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """Open a plain or gzip file for reading, told apart by its first bytes, not by its name.

    Raises:
        DataError: the file is missing, is a folder, cannot be read, is damaged gzip, or unpacks to
            more than its limit.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if packed:
                with gzip.open(raw) as unpacked, UnpackedReader(unpacked, path) as limited:
                    yield limited
            else:
                yield raw
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip file ({error}); fetch it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def read_bytes(path: Path) -> bytes:
    """The whole content of a plain or gzip file, without a UTF-8 byte order mark."""
    with open_bytes(path) as file:
        return require_unpacked(file.read().removeprefix(_BOM), str(path))


def data_files(folder: Path, key: str = "") -> list[Path]:
    """The files of a split's folder by name; hidden ones (``.name``) are not data.

    Raises:
        DataError: no such folder, or nothing in it that could be data; it names the setting
            ``key`` that points there.
    """
    where = f"{key}: {folder}" if key else str(folder)
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise DataError(
            f"{where}: no such folder; make the sample with 'python "
            "datasets/amazonbook/prepare.py --sample --out datasets/sample', or point a run at a "
            "prepared folder with --data DIR"
        )
    entries = sorted(path for path in folder.iterdir() if path.is_file())
    visible = [path for path in entries if not path.name.startswith(".")]
    if not visible:
        hidden = f" (only hidden files: {entries[0].name}, which are left out)" if entries else ""
        raise DataError(f"{where}: holds no data files{hidden}; prepare it again, or name another")
    return visible


def reader_files(folder: Path, key: str = "") -> list[Path]:
    """:func:`data_files` for a model folder's own reader, which may unpack gz without a limit.

    Raises:
        DataError: as :func:`data_files`, or damaged gzip, or a file that unpacks beyond its limit.
    """
    files = data_files(folder, key)
    for file in files:
        with open_bytes(file) as content:
            while isinstance(content, UnpackedReader) and content.read(1 << 20):
                pass
    return files


def expand(paths: Path | str | list[Path] | tuple[Path, ...]) -> list[Path]:
    """Folders replaced by their data files; single files stay."""
    several = [Path(paths)] if isinstance(paths, Path | str) else [Path(path) for path in paths]
    return [file for path in several for file in (data_files(path) if path.is_dir() else [path])]


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, as ``sha256sum`` prints it."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    return digest.hexdigest()


@dataclass
class HashedFile:
    """A file being written, whose size and SHA-256 are known when it closes."""

    stream: IO[bytes]
    size: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    def write(self, block: bytes) -> None:
        """Append ``block`` to the file and to its checksum."""
        self.stream.write(block)
        self._digest.update(block)
        self.size += len(block)

    def record(self) -> Record:
        """What meta.json keeps of the file."""
        return {"bytes": self.size, "sha256": self._digest.hexdigest()}


@contextmanager
def replacing(path: Path, called: str = "") -> Iterator[Path]:
    """A file beside ``path`` to write, which takes its place at the end or is removed.

    Raises:
        DataError: the disk is full or the place is not writable; it names ``called`` or the path.
    """
    fresh = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield fresh
        fresh.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{called or path}: cannot be written: {reason}") from error
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)


def write_file(path: Path, fill: Callable[[HashedFile], None]) -> Record:
    """Create ``path``, whose content ``fill`` writes; DataError: it cannot be written."""
    with writing(path) as file:
        fill(file)
        return file.record()


def write_table(path: Path, table: pl.DataFrame) -> Record:
    """Create ``path`` as csv with a header; DataError: it cannot be written."""
    return write_file(path, lambda file: file.write(table.write_csv().encode()))


@contextmanager
def writing(path: Path) -> Iterator[HashedFile]:
    """Create ``path`` and the folders above it.

    Raises:
        DataError: the disk is full, a limit is hit, or the place is not writable.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            yield HashedFile(stream)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"cannot write {path}: {reason}; make room or choose another place"
        ) from None
