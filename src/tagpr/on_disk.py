"""`OnDisk`: a sequence whose elements stay in a file, so that memory does not grow with the number of users.

In memory are eight bytes per element and the `KEPT` elements read last; the others are read again when they are asked
for.

    rows = open_lines(path, decode)     # a JSONL file of ours
    rows = spooled(elements)            # anything that pickles, in a temporary file of this process
"""

import os
import pickle
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar, cast, overload

T = TypeVar("T")
U = TypeVar("U")

KEPT = 1024
"""Elements of a sequence that are kept when read: those of a small run are decoded once."""
_BLOCK = 1 << 16
"""Bytes read at a time in the order of the file."""


class OnDisk(Sequence[T], Generic[T]):
    """Elements of a file by their places; a slice is a view of the same file."""

    def __init__(
        self,
        file: BinaryIO,
        ends: "array[int]",
        decode: Callable[[bytes], T],
        positions: Sequence[int] | None = None,
    ) -> None:
        """ends: where each element of the file ends, in bytes. positions: which of them this sequence holds."""
        self._file, self._ends, self._decode = file, ends, decode
        self._positions = range(len(ends)) if positions is None else positions
        self._kept: dict[int, T] = {}

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> "OnDisk[T]": ...
    def __getitem__(self, index: int | slice) -> "T | OnDisk[T]":
        if isinstance(index, slice):
            return OnDisk(self._file, self._ends, self._decode, self._positions[index])
        place = self._positions[index]
        if place not in self._kept:
            start = self._ends[place - 1] if place else 0
            # at a place of its own: several threads may read
            self._keep(place, self._decode(os.pread(self._file.fileno(), self._ends[place] - start, start)))
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
        places = array("Q", (self._positions[i] for i in positions))
        return OnDisk(self._file, self._ends, self._decode, places)

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
    ends, place = array("Q"), 0
    while block := file.read(_BLOCK):
        at_newline = block.find(b"\n")
        while at_newline >= 0:
            ends.append(place + at_newline + 1)
            at_newline = block.find(b"\n", at_newline + 1)
        place += len(block)
    if place and (not ends or ends[-1] < place):
        ends.append(place)  # a last line without its end: whoever decodes it says what is wrong
    return OnDisk(file, ends, decode)


class Spool(Generic[T]):
    """Writes elements, as they come, to a temporary file, which goes with the sequence they become."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=_BLOCK)  # noqa: SIM115  # it goes with the sequence
        self._ends, self._place = array("Q"), 0

    def add(self, row: T) -> None:
        """One more element."""
        self._place += self._file.write(pickle.dumps(row, pickle.HIGHEST_PROTOCOL))
        self._ends.append(self._place)

    def rows(self) -> OnDisk[T]:
        """All of them; nothing can be added any more."""
        self._file.flush()
        return OnDisk(cast(BinaryIO, self._file), self._ends, pickle.loads)


def spooled(rows: Iterable[T]) -> OnDisk[T]:
    """The elements in a temporary file."""
    spool: Spool[T] = Spool()
    for row in rows:
        spool.add(row)
    return spool.rows()
