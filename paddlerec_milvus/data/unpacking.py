# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Packed data is unpacked up to a limit: a small file made to fill memory or disk is refused."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO

from paddlerec_milvus.errors import DataError, SettingsError

VARIABLE = "PADDLEREC_MILVUS_UNPACKED_GIB"
LEAST_LIMIT = 256 << 20  # bytes; a file may always unpack to as much
LARGEST_RATIO = 100  # beyond that; logs as text have 3 to 20
_BLOCK = 1 << 20
# gz, zstd and zlib, which polars unpacks unasked and without a limit
_PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


class UnpackedReader(io.BufferedReader):
    """The unpacked bytes of the file ``path``; reading beyond its limit raises DataError.

    The limit is 256 MiB, or 100 times the size of the file where that is more, or whatever the
    environment variable PADDLEREC_MILVUS_UNPACKED_GIB says.
    """

    def __init__(self, unpacked: io.BufferedIOBase | IO[bytes], path: Path) -> None:
        super().__init__(_LimitedBytes(unpacked, path), _BLOCK)


class _LimitedBytes(io.RawIOBase):
    def __init__(self, unpacked: io.BufferedIOBase | IO[bytes], path: Path) -> None:
        self._unpacked, self._path, self._limit = unpacked, path, _limit_of(path)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self._unpacked.read(min(len(buffer), _BLOCK))
        buffer[: len(block)] = block
        self._check(self._unpacked.tell())
        return len(block)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(_BLOCK), b""))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            self._check(offset)
        return self._unpacked.seek(offset, whence)

    def tell(self) -> int:
        return self._unpacked.tell()

    def _check(self, size: int) -> None:
        if size > self._limit:
            packed = self._path.stat().st_size
            raise DataError(
                f"{self._path}: {packed:,} bytes unpack to more than {self._limit:,}, so it is "
                f"damaged or made to fill the memory. If it is right: {VARIABLE}=N lets a file "
                "unpack to N GiB"
            )


def _limit_of(path: Path) -> int:
    text = os.environ.get(VARIABLE)
    if text is None:
        return max(LEAST_LIMIT, LARGEST_RATIO * path.stat().st_size)
    try:
        limit = int(float(text) * 2**30)
    except (ValueError, OverflowError):
        limit = 0
    if limit < 1:
        raise SettingsError(f"{VARIABLE}: {text!r} is no size; expected GiB above 0, such as 20")
    return limit


def require_unpacked(content: bytes, name: str) -> bytes:
    """``content``; DataError where it is packed once more, or in a way that is not read here."""
    if content.startswith(_PACKED):
        raise DataError(
            f"{name}: holds packed bytes where text is expected (packed twice, or by zstd or "
            "zlib); unpack it, or pack it once with gzip"
        )
    return content
