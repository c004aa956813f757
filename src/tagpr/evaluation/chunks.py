"""Answers in chunks, each saved when it is there, so that a kill costs at most one; shared by models and systems.

Each finished chunk is one file beside the target, written atomically; several processes can share the chunks (`shard`);
whoever finds all of them complete joins them. What a chunk holds depends on the caller's order alone, so a resumed run
batches, and hence answers, exactly as an undisturbed one.
"""

import shutil
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tagpr.errors import DataError
from tagpr.evaluation.predictions import Prediction, each_prediction, open_predictions, write_predictions
from tagpr.files import write_text
from tagpr.progress import Progress

Answering = Callable[[list[int], Progress], list[Prediction]]
"""Positions of one chunk and a progress callback -> their predictions."""


class Chunks:
    """The answers to the examples `ids`, one Prediction each, made and kept in chunks until all are there."""

    def __init__(
        self, ids: Sequence[str], order: Sequence[int], size: int, out: Path, fingerprint: str, progress: Progress
    ) -> None:
        """order: positions, as they are answered. size: of a chunk. out: the file they end in. fingerprint: a digest of
        all that decides the answers; parts with another one are not used.
        """
        self._ids, self._out, self._fingerprint, self._progress = ids, out, fingerprint, progress
        self._order, self._size = order, size
        self._parts = out.with_name(f".{out.stem}-{fingerprint}.parts")

    def answer(self, answer: Answering, shard: tuple[int, int] = (0, 1)) -> None:
        """Answer what is missing. shard: (i, n) answers every n-th chunk."""
        if is_complete(self._out, self._fingerprint):
            return
        mine = self._numbers()[shard[0] :: shard[1]]
        done, total = 0, sum(len(self._chunk(number)) for number in mine)

        def report(part: int, _: int = 0, note: str = "") -> None:
            self._progress(min(total, done + part), total, note)

        for number in mine:
            if not self._part(number).is_file():
                write_predictions(self._part(number), answer(self._chunk(number), report))
            done += len(self._chunk(number))
            report(0)

    def joined(self) -> Sequence[Prediction]:
        """The predictions in the order of `ids`, in the file `out`; empty if other processes have not finished.

        Raises DataError if a file that was there already is damaged.
        """
        if is_complete(self._out, self._fingerprint):
            deque(each_prediction(self._out), maxlen=0)
        elif all(self._part(number).is_file() for number in self._numbers()):
            write_predictions(self._out, self._rows())
            write_text(_kept_fingerprint(self._out), self._fingerprint + "\n")
            shutil.rmtree(self._parts, ignore_errors=True)
        else:
            return []
        return open_predictions(self._out)

    def _numbers(self) -> range:
        return range((len(self._order) + self._size - 1) // self._size)

    def _chunk(self, number: int) -> list[int]:
        """The positions of one chunk."""
        return list(self._order[number * self._size : (number + 1) * self._size])

    def _part(self, number: int) -> Path:
        return self._parts / f"{number:05d}.jsonl"

    def _rows(self) -> Iterator[Prediction]:
        """The rows of all parts in the order of `ids`. Raises DataError if a part was not written here."""
        whole, place, first = self._parts / "all.jsonl", array("Q", bytes(8 * len(self._ids))), 0
        with open(whole, "wb") as stream:
            for number in self._numbers():
                positions = self._chunk(number)
                for row, position in enumerate(positions, first):
                    place[position] = row
                first += len(positions)
                with open(self._part(number), "rb") as part:
                    shutil.copyfileobj(part, stream)
        rows = open_predictions(whole)
        for name, row in zip(self._ids, place, strict=True):
            if len(rows) != len(self._ids) or rows[row].id != name:
                raise DataError(f"{self._parts}: holds other answers than it should; delete it and evaluate again")
            yield rows[row]


def is_complete(out: Path, fingerprint: str) -> bool:
    """Does `out` hold answers made from exactly this, so that no model has to be loaded?"""
    origin = _kept_fingerprint(out)
    return out.is_file() and origin.is_file() and origin.read_text() == fingerprint + "\n"


def _kept_fingerprint(out: Path) -> Path:
    """Where the fingerprint of a predictions file is kept."""
    return out.with_name(f".{out.stem}.fingerprint")
