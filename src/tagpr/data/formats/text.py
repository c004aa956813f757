"""Text files as users have them: plain or gzip, UTF-8 or UTF-16, with or without a mark, any kind of line end.

Bytes that are no UTF-8 become lone surrogates (`undecodable` finds them), so one bad byte costs one record.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, cast

from tagpr.errors import DataError

_GZIP = b"\x1f\x8b"
_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive or spreadsheet; unpack it, or save the sheet as CSV"),
    (b"BZh", "a bzip2 file; unpack it, or pack it with gzip"),
    (b"\xfd7zXZ", "an xz file; unpack it, or pack it with gzip"),
    (b"\x28\xb5\x2f\xfd", "a zstandard file; unpack it, or pack it with gzip"),
    (b"SQLite format 3", "an SQLite database; export the table as CSV"),
    (b"%PDF", "a PDF; export the data as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file; save the sheet as CSV"),
    (b"{\\rtf", "rich text; save it as plain text"),
    (b"ARROW1", "a Feather (Arrow) file; save it as Parquet"),
    (b"version https://git-lfs", "a Git LFS pointer in the data's place; run git lfs pull"),
    (_GZIP, "packed with gzip twice; unpack it once"),
)
_UNDECODABLE = re.compile("[\udc80-\udcff]")


def undecodable(text: str) -> int | None:
    """The column, from 1, of the first byte in a record's text that is not UTF-8; None if there is none."""
    if text.isascii():
        return None
    found = _UNDECODABLE.search(text)
    return found.start() + 1 if found else None


def head_of(path: Path, size: int = 4096) -> bytes:
    """The first bytes of a file, unpacked if it is gzip. Raises DataError."""
    with reading(path), _open_bytes(path) as stream:
        return stream.read(size)


@contextmanager
def open_text(path: Path) -> Iterator[TextIOWrapper]:
    """The file as text, line ends as they are. Raises DataError for what it is instead of text, and for what goes wrong
    while it is read.
    """
    with reading(path), _open_bytes(path) as stream:
        head = stream.read(4096)
        stream.seek(0)
        start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
        for mark, what in _FOREIGN:
            if head.startswith(mark):
                raise DataError(f"{path}: is {what}")
        if start.startswith((b"<!doctype", b"<html", b"<?xml")):
            raise DataError(f"{path}: is a web page or XML; download the data file itself, or export it as CSV or JSON")
        encoding = _encoding(head)
        errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
        with TextIOWrapper(stream, encoding=encoding, errors=errors, newline="") as text:
            yield text


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What can go wrong while a file is read, in our words."""
    try:
        yield
    except UnicodeError as error:
        place = f" at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        raise DataError(f"{path}: not readable as UTF-16 or UTF-32{place}; save the file as UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: a damaged gzip file ({error}); it may be cut off, make it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path in the recipe") from None


def _open_bytes(path: Path) -> BinaryIO:
    with open(path, "rb") as stream:
        packed = stream.read(2) == _GZIP
    return cast(BinaryIO, gzip.open(path)) if packed else open(path, "rb")


def _encoding(head: bytes) -> str:
    """By its mark; without one UTF-16 shows by a NUL in every second place."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    start = head[:64]
    if len(start) >= 4 and start.count(0) * 5 >= len(start) * 2:
        if start[1::2].count(0) > 0.8 * len(start[1::2]):
            return "utf-16-le"
        if start[::2].count(0) > 0.8 * len(start[::2]):
            return "utf-16-be"
    return "utf-8-sig"
