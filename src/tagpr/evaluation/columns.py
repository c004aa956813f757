"""A system's predictions as columns of numbers, which wait in a file: in memory are `ROWS` predictions or `WIDTH`
columns at a time, and never the texts of all.
"""

import hashlib
import json
import os
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from tagpr.errors import RunError
from tagpr.evaluation.predictions import Prediction
from tagpr.evaluation.results import CHAIN_TOKENS, EVIDENCE_PRECISION, FORMAT_RATE
from tagpr.evaluation.statistics import Statistic, mean, share, task_statistics
from tagpr.statistics import Floats
from tagpr.tasks.rubric_target import RUBRIC, WIN_RATE
from tagpr.tasks.types import Task

ROWS = 1024
WIDTH = 8


@dataclass(frozen=True)
class Part:
    """One metric: which columns it is made of, and how."""

    metric: str
    columns: range
    value: Callable[[Floats, Floats], Floats]
    """As `Statistic.value`."""


@dataclass(frozen=True)
class Columns:
    """What is counted of a system's predictions on one task."""

    parts: tuple[Part, ...]
    table: "Table"
    asked: str
    """A digest of the examples, in their order."""
    cut_off: int
    """Answers that the limit of new tokens cut off."""

    def points(self) -> dict[str, float]:
        """The metrics on the examples themselves."""
        count = np.array(float(self.table.rows))
        return {part.metric: float(part.value(self._totals(part), count)) for part in self.parts}

    def slabs(self) -> Iterator[Floats]:
        """(n, at most WIDTH) columns of all parts, in their order."""
        columns = [column for part in self.parts for column in part.columns]
        yield from map(self.table.read, _divided(columns))

    def _totals(self, part: Part) -> Floats:
        return np.concatenate([self.table.read(some).sum(0) for some in _divided(part.columns)])


def read_columns(task: Task, rows: Sequence[Prediction]) -> Columns:
    """Read in one pass. Raises RunError if the task is marked by judges and these are not."""
    digest, table, found = hashlib.sha256(), Table(), dict[str, Statistic]()
    marked, claims, cut_off = dict.fromkeys((RUBRIC, WIN_RATE), 0), 0, 0
    left = iter(rows)
    while chunk := list(islice(left, ROWS)):
        digest.update(json.dumps([row.id for row in chunk]).encode())
        for name in marked:
            marked[name] += sum(name in row.scores for row in chunk)
        claims += sum(row.claims for row in chunk)
        cut_off += sum(row.finished is False for row in chunk)
        found = _statistics(task, chunk)
        table.add(np.hstack([statistic.columns for statistic in found.values()]))
    missing = [name for name, count in marked.items() if count < len(rows)]
    for name in missing:
        if name in task.metrics:
            raise RunError(f"answers to {task.name} are not marked by judges; add the block judge to the recipe")
    left_out, parts, first = {*missing, *([] if claims else [EVIDENCE_PRECISION])}, list[Part](), 0
    for name, statistic in found.items():
        own = range(first, first + statistic.columns.shape[1])
        if name not in left_out:
            parts.append(Part(name, own, statistic.value))
        first = own.stop
    return Columns(tuple(parts), table, digest.hexdigest(), cut_off)


def _statistics(task: Task, rows: Sequence[Prediction]) -> dict[str, Statistic]:
    """Every metric of some predictions, those included that others of the system may lack."""
    return {
        **task_statistics(task, [row.answer for row in rows], [row.target for row in rows]),
        FORMAT_RATE: mean([row.format_ok for row in rows]),
        CHAIN_TOKENS: mean([row.chain_tokens for row in rows]),
        **{name: mean([row.scores.get(name, 0.0) for row in rows]) for name in (RUBRIC, WIN_RATE)},
        EVIDENCE_PRECISION: share([row.true_claims for row in rows], [row.claims for row in rows]),
    }


def _divided(columns: Sequence[int]) -> list[NDArray[np.int64]]:
    """Columns in equal lots of at most `WIDTH`."""
    return np.array_split(np.array(columns, np.int64), -(-len(columns) // WIDTH))


class Table:
    """Rows of numbers in a temporary file, read by columns."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # it goes with the table
        self._ends = array("Q")  # of the blocks, in rows
        self._types = bytearray()  # of the blocks
        self._starts = array("Q")
        self.rows = 0

    def add(self, block_NC: Floats) -> None:
        """Some more rows, in all columns."""
        packed = packed_exactly(block_NC)
        self._starts.append(self._file.tell())
        self._types.append(packed.itemsize)
        self.rows += len(block_NC)
        self._ends.append(self.rows)
        self._file.write(np.ascontiguousarray(packed.T).tobytes())

    def read(self, columns: Sequence[int] | NDArray[np.int64]) -> Floats:
        """(n, these columns)."""
        self._file.flush()
        found, row = np.empty((self.rows, len(columns))), 0
        for start, size, end in zip(self._starts, self._types, self._ends, strict=True):
            length = (end - row) * size
            for place, column in enumerate(columns):
                data = os.pread(self._file.fileno(), length, start + int(column) * length)
                found[row:end, place] = np.frombuffer(data, np.uint8 if size == 1 else np.float64)
            row = end
        return found


def packed_exactly(values: Floats) -> "Floats | NDArray[np.uint8]":
    """The same numbers in one byte each if all are whole and below 256, as counts are."""
    with np.errstate(invalid="ignore"):
        small = values.astype(np.uint8)
    return small if np.array_equal(small, values) else values
