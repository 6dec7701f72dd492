# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The files of a log that Spark reads: here, or at an address such as s3a://bucket/clicks.

What a file is, its columns and its header are recognised as on one machine, by its first bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import polars as pl

from paddlerec_milvus.data.log_bytes import log_files, open_log
from paddlerec_milvus.data.log_options import LogOptions
from paddlerec_milvus.data.log_table import Chunks, LogTable, open_table
from paddlerec_milvus.data.spark.work import literal
from paddlerec_milvus.errors import DataError, SettingsError, UserError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_HEAD_BYTES = 1 << 20
_GZIP, _ZIP, _PARQUET, _BOM = b"\x1f\x8b", b"PK\x03\x04", b"PAR1", b"\xef\xbb\xbf"


@dataclass(frozen=True)
class LogPart:
    """A file of a log: where Spark reads it, what it is, its line of names, how lines end."""

    uri: str
    encoded_name: str  # as Spark spells the name of the file that a row is of
    table: LogTable
    header: str | None = None
    line_end: str = "\n"

    @property
    def name(self) -> str:
        """The file's own name, by which parts are ordered."""
        return self.uri.rpartition("/")[2]

    @property
    def pattern(self) -> str:
        """The address as Spark takes it."""
        return literal(self.uri)


def is_address(place: str) -> bool:
    """Whether a log is somewhere that Spark alone reads."""
    return "://" in place


def parts_of(spark: SparkSession, place: str, options: LogOptions, copies: Path) -> list[LogPart]:
    """The files of the log at ``place``, by name.

    Of an address a file's first bytes are copied into the folder ``copies``, and all of it when a
    line has to be judged.

    Raises:
        DataError: nothing is there, or no format that is known.
        SettingsError: ``options`` do not fit, or a file is packed as Spark does not read it.
    """
    if is_address(place):
        return [_remote_part(spark, status, options, copies) for status in _statuses(spark, place)]
    return [
        _part(spark, f"file:{file.resolve()}", file, _magic(file), options)
        for file in log_files(Path(place))
    ]


def checksum_of(spark: SparkSession, place: str) -> str:
    """SHA-256 over names, sizes and times of change of the files at an address."""
    facts = [
        f"{status.getPath().getName()} {status.getLen()} {status.getModificationTime()}"
        for status in _statuses(spark, place)
    ]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def _magic(file: Path) -> bytes:
    with file.open("rb") as content:
        return content.read(4)


def _part(spark: SparkSession, uri: str, file: Path, magic: bytes, options: LogOptions) -> LogPart:
    """What ``file`` is, which holds the beginning or all of what is at ``uri``."""
    if magic == _ZIP:
        raise SettingsError(f"{file}: --engine spark reads no zip; unpack it, or pack it with gzip")
    if (magic[:2] == _GZIP) != uri.endswith(".gz"):
        raise SettingsError(
            f"{file}: --engine spark tells a gzip file by its name alone, which ends with .gz; "
            "rename it"
        )
    if file.name[0] in "._":
        raise SettingsError(f"{file}: Spark skips files whose name begins with . or _; rename it")
    table = open_table(file, options)
    encoded = str(_hadoop(spark, uri)[0].toUri().getRawPath()).rpartition("/")[2]
    if magic == _PARQUET:
        return LogPart(uri, encoded, table)
    with open_log(file) as content:
        head = content.read(_HEAD_BYTES).removeprefix(_BOM)
    line_end = "\r" if b"\r" in head and b"\n" not in head else "\n"
    header = head.decode(errors="replace").split(line_end)[0].removesuffix("\r")
    return LogPart(uri, encoded, table, header if table.has_header else None, line_end)


def _statuses(spark: SparkSession, place: str) -> list[Any]:
    """Hadoop's status of the files at an address, by name."""
    path, files = _hadoop(spark, place)
    if not files.exists(path):
        raise DataError(f"{place}: no such file; check the path")
    if not files.getFileStatus(path).isDirectory():
        return [files.getFileStatus(path)]
    inside = [status for status in files.listStatus(path) if status.isFile()]
    parts = [status for status in inside if status.getPath().getName()[0] not in "._"]
    if not parts:
        raise DataError(f"{place}: a folder without files of a log; name the file or its folder")
    return sorted(parts, key=lambda status: str(status.getPath().getName()))


def _hadoop(spark: SparkSession, place: str) -> tuple[Any, Any]:
    """Hadoop's path of an address, and the file system that it is in."""
    path = spark._jvm.org.apache.hadoop.fs.Path(place)
    return path, path.getFileSystem(spark._jsc.hadoopConfiguration())


def _remote_part(spark: SparkSession, status: Any, options: LogOptions, copies: Path) -> LogPart:
    uri, name = str(status.getPath().toString()), str(status.getPath().getName())
    stand_in = copies / name
    path, files = _hadoop(spark, uri)
    stream = files.open(path)
    head = bytes(stream.readNBytes(_HEAD_BYTES))
    stream.close()
    content = head
    if head.startswith(_PARQUET):
        names = spark.read.parquet(literal(uri)).columns
        pl.DataFrame(schema=dict.fromkeys(names, pl.Int64)).write_parquet(stand_in)
    else:
        if head.startswith(_GZIP):
            content = zlib.decompressobj(31).decompress(head)
        if len(head) < status.getLen():  # its last line is cut off
            content = content[: content.rfind(b"\n") + 1] or content
        stand_in.write_bytes(content)
    try:
        part = _part(spark, uri, stand_in, head[:4], options)
    except UserError as error:
        raise type(error)(str(error).replace(str(stand_in), uri)) from None
    copied = _copying(spark, uri, copies / "whole" / name, options)
    return dataclasses.replace(
        part, table=dataclasses.replace(part.table, path=Path(name), open_chunks=copied)
    )


def _copying(
    spark: SparkSession, uri: str, copy: Path, options: LogOptions
) -> Callable[[], Chunks]:
    """The rows of a file far away, copied here to be judged line by line."""

    def chunks() -> Iterator[Any]:
        path, files = _hadoop(spark, uri)
        with TemporaryDirectory(dir=copy.parent.parent) as folder:
            local = Path(folder) / copy.name
            files.copyToLocalFile(False, path, _hadoop(spark, f"file:{local}")[0], True)
            for frame, where in open_table(local, options).open_chunks():
                yield frame, lambda row, of=where: of(row).replace(str(local), uri)

    return chunks
