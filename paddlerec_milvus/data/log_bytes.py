# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The bytes of a log as people store them: plain, gz, zip, folders of parts, in any encoding."""

from __future__ import annotations

import codecs
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paddlerec_milvus.data.files import open_bytes
from paddlerec_milvus.data.unpacking import UnpackedReader
from paddlerec_milvus.errors import DataError, SettingsError

BLOCK_BYTES = 32 << 20
_ZIP_MAGIC = b"PK\x03\x04"
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def log_files(path: Path) -> list[Path]:
    """The file itself, or a folder's parts by name; ``_SUCCESS`` and hidden files are no parts.

    Raises:
        DataError: nothing at ``path``, or a folder without parts.
    """
    if not path.is_dir():
        if not path.exists():
            raise DataError(f"{path}: no such file; check the path")
        return [path]
    parts = sorted(p for p in path.iterdir() if p.is_file() and p.name[0] not in "._")
    if not parts:
        raise DataError(f"{path}: a folder without files of a log; name the file or its folder")
    return parts


@contextmanager
def open_log(path: Path) -> Iterator[io.BufferedReader]:
    """A log's bytes, unpacked if they are gz or zip; told by the first bytes, not by the name.

    Raises:
        DataError: it cannot be read, unpacks beyond its limit, or the zip holds several files.
    """
    with open_bytes(path) as file:
        magic = file.read(len(_ZIP_MAGIC))
        file.seek(0)
        if magic != _ZIP_MAGIC:
            yield file
            return
    try:
        with (
            zipfile.ZipFile(path) as archive,
            archive.open(_only_member(archive, path)) as member,
            UnpackedReader(member, path) as limited,
        ):
            yield limited
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise DataError(f"{path}: damaged zip file ({error}); fetch it again") from None
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or packed in a rare way
        raise DataError(f"{path}: a zip file that cannot be read ({error}); unpack it") from None


def _only_member(archive: zipfile.ZipFile, path: Path) -> str:
    names = [
        name
        for name in archive.namelist()
        if not name.endswith("/") and "__MACOSX" not in name and Path(name).name[0] not in "._"
    ]
    if len(names) != 1:
        inside = ", ".join(names[:5]) or "nothing"
        raise DataError(f"{path}: holds {inside}; expected one log in a zip: unpack it")
    return names[0]


def line_blocks(path: Path, encoding: str | None = None) -> Iterator[bytes]:
    """Whole lines in UTF-8, each ended by one line feed, some megabytes at a time.

    Line ends may be LF, CRLF or CR alone; a byte order mark and blank lines at the very end go.

    Raises:
        DataError: bytes that are not text in ``encoding`` (UTF-8), with line and byte.
    """
    carry, lines, ends_with_cr = b"", 0, None
    for number, block in enumerate(_decoded(path, encoding)):
        block = carry + (block.removeprefix(_BOM) if number == 0 else block)
        if ends_with_cr is None:
            ends_with_cr = b"\r" in block and b"\n" not in block
        block = block.replace(b"\r", b"\n") if ends_with_cr else block.replace(b"\r\n", b"\n")
        whole = block[: block.rfind(b"\n") + 1].rstrip(b"\n")
        if not whole:
            carry = block
            continue
        carry = block[len(whole) + 1 :]
        _check_text(path, whole, lines)
        lines += whole.count(b"\n") + 1
        yield whole + b"\n"
    if rest := carry.rstrip(b"\r\n"):
        _check_text(path, rest, lines)
        yield rest + b"\n"


def _decoded(path: Path, encoding: str | None) -> Iterator[bytes]:
    with open_log(path) as file:
        if encoding is None:
            while block := file.read(BLOCK_BYTES):
                yield block
            return
        try:
            decoder = codecs.getincrementaldecoder(encoding)()
        except LookupError:
            raise SettingsError(
                f"--encoding {encoding}: no such encoding; such as latin-1, gbk, utf-16"
            ) from None
        try:
            while block := file.read(BLOCK_BYTES):
                yield decoder.decode(block).encode()
            yield decoder.decode(b"", final=True).encode()
        except UnicodeError as error:
            raise DataError(f"{path}: not text in {encoding} ({error})") from None


def _check_text(path: Path, block: bytes, lines_before: int) -> None:
    for mark, name, remedy in (
        (b"\0", "zero byte, so it is no UTF-8 text", "say what it is, such as --encoding utf-16"),
        (b"\r", "carriage return inside a line", "save it with one kind of line ends"),
    ):
        if (at := block.find(mark)) >= 0:
            line = lines_before + block.count(b"\n", 0, at) + 1
            raise DataError(f"{path}, line {line}: a {name}; {remedy}")
    if block.isascii():
        return
    try:
        block.decode()
    except UnicodeDecodeError as error:
        before = block[: error.start]
        line = lines_before + before.count(b"\n") + 1
        byte = error.start - before.rfind(b"\n")
        utf16 = line == 1 and block.startswith(_UTF16)
        raise DataError(
            f"{path}, line {line}: not UTF-8 text (byte {byte} is 0x{block[error.start]:02x}); say "
            f"what it is, such as --encoding {'utf-16' if utf16 else 'latin-1'}, or save it as "
            "UTF-8"
        ) from None
