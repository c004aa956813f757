"""`OnDisk`: a sequence whose elements stay in a file, so that memory does not grow with the number of users.

In memory are where every block of the file begins (16 bytes per 16 KiB), the block and the `KEPT` elements read last;
the others are read again when they are asked for.

    rows = open_lines(path, decode)     # a JSONL file of ours
    rows = spooled(elements)            # anything that pickles, in a temporary file of this process
"""

import os
import pickle
import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar, cast, overload

T = TypeVar("T")
U = TypeVar("U")

KEPT = 1024
"""Elements of a sequence that are kept when read: those of a small run are decoded once."""
BLOCK = 1 << 14
"""Bytes that are read together, unless an element is longer."""
_BUFFER = 1 << 16
_LENGTH = 8
"""Bytes before a pickled element that say how long it is."""


class Places:
    """Where the elements of a file are, by blocks of them."""

    def __init__(self) -> None:
        self._starts, self._firsts = array("Q", [0]), array("Q", [0])
        self.count = self.end = 0
        """Elements, and bytes."""

    def add(self, end: int) -> None:
        """One more element, which ends at this byte."""
        if self.end - self._starts[-1] >= BLOCK:
            self._starts.append(self.end)
            self._firsts.append(self.count)
        self.count, self.end = self.count + 1, end

    def block_of(self, place: int) -> tuple[int, int]:
        """(block, which of its elements) of an element."""
        block = bisect_right(self._firsts, place) - 1
        return block, place - self._firsts[block]

    def extent(self, block: int) -> tuple[int, int]:
        """(first byte, number of bytes) of a block."""
        start = self._starts[block]
        return start, (self._starts[block + 1] if block + 1 < len(self._starts) else self.end) - start


class OnDisk(Sequence[T], Generic[T]):
    """Elements of a file by their places; a slice is a view of the same file."""

    def __init__(
        self,
        file: BinaryIO,
        places: Places,
        cut: Callable[[bytes], list[bytes]],
        decode: Callable[[bytes], T],
        positions: Sequence[int] | None = None,
    ) -> None:
        """cut: the elements of a block, decoded one by one. positions: which of all this sequence holds."""
        self._file, self._places, self._cut, self._decode = file, places, cut, decode
        self._positions = range(places.count) if positions is None else positions
        self._kept: dict[int, T] = {}
        self._block: tuple[int, list[bytes]] = -1, []

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> "OnDisk[T]": ...
    def __getitem__(self, index: int | slice) -> "T | OnDisk[T]":
        if isinstance(index, slice):
            return self._view(self._positions[index])
        place = self._positions[index]
        if place not in self._kept:
            self._keep(place, self._decode(self._bytes(place)))
        return self._kept[place]

    def __iter__(self) -> Iterator[T]:
        for index in range(len(self)):
            yield self[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # compared by content, like a list

    def at(self, positions: Sequence[int]) -> "OnDisk[T]":
        """The elements at these positions, as a sequence of their own."""
        return self._view(array("Q", (self._positions[i] for i in positions)))

    def _view(self, positions: Sequence[int]) -> "OnDisk[T]":
        return OnDisk(self._file, self._places, self._cut, self._decode, positions)

    def _bytes(self, place: int) -> bytes:
        number, within = self._places.block_of(place)
        block = self._block
        if block[0] != number:
            start, size = self._places.extent(number)
            # at a place of its own, and set at once: several threads may read
            block = self._block = number, self._cut(os.pread(self._file.fileno(), size, start))
        return block[1][within]

    def _keep(self, place: int, value: T) -> None:
        if len(self._kept) >= KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[place] = value


class Mapped(Sequence[U], Generic[T, U]):
    """A function of every element of a sequence, computed when asked for; the `KEPT` last ones are kept, so that what
    is kept per object (a prompt) is found again.
    """

    def __init__(self, rows: Sequence[T], change: Callable[[int, T], U]) -> None:
        """change: place in `rows` and element -> this sequence's element."""
        self._rows, self._change = rows, change
        self._kept: dict[int, U] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> U: ...
    @overload
    def __getitem__(self, index: slice) -> list[U]: ...
    def __getitem__(self, index: int | slice) -> "U | list[U]":
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self._rows))[index]
        if place not in self._kept:
            value = self._change(place, self._rows[place])
            if len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[place] = value
        return self._kept[place]


def at(rows: Sequence[T], positions: Sequence[int]) -> Sequence[T]:
    """The elements at these positions; those of a file stay there."""
    return rows.at(positions) if isinstance(rows, OnDisk) else [rows[i] for i in positions]


def open_lines(path: Path, decode: Callable[[bytes], T]) -> OnDisk[T]:
    """The lines of a file, each decoded when it is read. Raises OSError if there is no such file."""
    file = open(path, "rb")  # noqa: SIM115  # it goes with the sequence
    places, read = Places(), 0
    while block := file.read(_BUFFER):
        at_newline = block.find(b"\n")
        while at_newline >= 0:
            places.add(read + at_newline + 1)
            at_newline = block.find(b"\n", at_newline + 1)
        read += len(block)
    if places.end < read:
        places.add(read)  # a last line without its end: whoever decodes it says what is wrong
    return OnDisk(file, places, lambda block: block.split(b"\n"), decode)


class Spool(Generic[T]):
    """Writes elements, as they come, to a temporary file, which goes with the sequence they become."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=_BUFFER)  # noqa: SIM115  # it goes with the sequence
        self._places = Places()

    def add(self, row: T) -> None:
        """One more element."""
        self._places.add(self._places.end + write_pickled(cast(BinaryIO, self._file), row))

    def rows(self) -> OnDisk[T]:
        """All of them; nothing can be added any more."""
        self._file.flush()
        return OnDisk(cast(BinaryIO, self._file), self._places, cut_pickled, pickle.loads)


def write_pickled(file: BinaryIO, value: object) -> int:
    """Write a value after its length; returns the bytes written."""
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return file.write(len(data).to_bytes(_LENGTH, "little")) + file.write(data)


def cut_pickled(block: bytes) -> list[bytes]:
    """The pickles of a block that `write_pickled` wrote."""
    found, place = [], 0
    while place < len(block):
        start = place + _LENGTH
        place = start + int.from_bytes(block[place:start], "little")
        found.append(block[start:place])
    return found


def spooled(rows: Iterable[T]) -> OnDisk[T]:
    """The elements in a temporary file."""
    spool: Spool[T] = Spool()
    for row in rows:
        spool.add(row)
    return spool.rows()
