"""Sorting more than memory holds: sorted runs in one temporary file, merged when they are read.

`Sorter` takes pairs and gives them in order; `Numbering` numbers keys, of which there may be as many.
"""

import heapq
import os
import pickle
import tempfile
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import BinaryIO, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from tagpr.on_disk import cut_pickled, write_pickled

PairT = TypeVar("PairT", tuple[int, int], tuple[str, int])

RUN = 8192
"""Pairs that are sorted at a time: about a megabyte."""
PIECE = 256
"""Pairs of a run that are read at a time."""


class Sorter(Generic[PairT]):
    """Pairs, added in any order, read in theirs. In memory are one run and a piece of every other."""

    def __init__(self) -> None:
        self._file = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115  # it goes with the sorter
        self._runs: list[list[int]] = []  # where the pieces of a run begin, and the last ends
        self._run: list[PairT] = []

    def add(self, pair: PairT) -> None:
        """One more pair."""
        self._run.append(pair)
        if len(self._run) == RUN:
            self._write()

    def __iter__(self) -> Iterator[PairT]:
        self._file.flush()
        self._run.sort()
        return heapq.merge(*map(self._read, self._runs), self._run)

    def _write(self) -> None:
        self._run.sort()
        places = [self._file.tell()]
        for first in range(0, RUN, PIECE):
            places.append(places[-1] + write_pickled(self._file, self._run[first : first + PIECE]))
        self._runs.append(places)
        self._run = []

    def _read(self, places: list[int]) -> Iterator[PairT]:
        for start, end in pairwise(places):
            (piece,) = cut_pickled(os.pread(self._file.fileno(), end - start, start))
            yield from pickle.loads(piece)


class Numbering:
    """Numbers keys in the order of their first appearance: of b, a, b the numbers are 0, 1, 0."""

    def __init__(self) -> None:
        self._sorter, self._count = Sorter[tuple[str, int]](), 0

    def add(self, key: str) -> None:
        """One more key."""
        self._sorter.add((key, self._count))
        self._count += 1

    def numbers(self) -> NDArray[np.int64]:
        """(n,): the number of each key added, in the order of adding."""
        first = np.empty(self._count, np.int64)
        last: str | None = None
        start = 0
        for key, place in self._sorter:
            if key != last:
                last, start = key, place
            first[place] = start
        return np.unique(first, return_inverse=True)[1].astype(np.int64, copy=False)


def numbered(keys: Iterable[str]) -> NDArray[np.int64]:
    """`Numbering` of these keys."""
    numbering = Numbering()
    for key in keys:
        numbering.add(key)
    return numbering.numbers()
