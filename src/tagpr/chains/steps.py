"""Steps of stage 0 as files: every step writes one Parquet file, and a step whose file is there is not run again.

A file carries a fingerprint of the step's settings and of the file before it, so a changed setting reruns that step and
those after it, and only those; a step that is made again with other rows reruns those after it too. Files are written
atomically and hold no dates: equal input gives equal bytes.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tagpr.errors import DataError
from tagpr.files import fingerprint, write_json
from tagpr.stages import made_again

Row = dict[str, Any]
_FINGERPRINT = b"tagpr.fingerprint"


@dataclass(frozen=True)
class StepCount:
    """How many rows came out of one step, by task."""

    step: str
    unit: str  # examples or chains
    tasks: dict[str, int]
    skipped: str = ""  # why the step let everything through, "" if it ran
    notes: dict[str, int] = field(default_factory=dict)  # why rows were dropped

    @property
    def total(self) -> int:
        """The count over all tasks."""
        return sum(self.tasks.values())


@dataclass(frozen=True)
class Funnel:
    """Counts of every step, in order."""

    steps: tuple[StepCount, ...]

    def write(self, path: Path) -> None:
        """Write the funnel as JSON."""
        rows = []
        for step in self.steps:
            row: dict[str, object] = {"step": step.step, "unit": step.unit, "total": step.total, "tasks": step.tasks}
            rows.append(row | ({"skipped": step.skipped} if step.skipped else {}) | ({"notes": step.notes}))
        write_json(path, {"steps": rows})

    @classmethod
    def read(cls, path: Path) -> "Funnel":
        """Raises DataError naming the file if it is no funnel."""
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))["steps"]
            return cls(
                tuple(
                    StepCount(
                        str(r["step"]),
                        str(r["unit"]),
                        _counts(r["tasks"]),
                        str(r.get("skipped", "")),
                        _counts(r.get("notes", {})),
                    )
                    for r in rows
                )
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise DataError(f"{path}: no funnel of chains, or a damaged one; {_fix(path)}") from None


def _counts(value: Mapping[str, int]) -> dict[str, int]:
    return {str(name): int(count) for name, count in value.items()}


def write_parquet(path: Path, rows: Sequence[Row], schema: pa.Schema, fingerprint: str = "") -> None:
    """Write rows atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if fingerprint:
        schema = schema.with_metadata({_FINGERPRINT: fingerprint.encode()})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), temporary)
    with open(temporary, "rb") as stream:
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def read_parquet(path: Path) -> list[Row]:
    """Rows of a Parquet file. Raises DataError naming it."""
    try:
        return pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read as Parquet ({reason}); {_fix(path)}") from None


def _fix(path: Path) -> str:
    """What to do about a file of chains that cannot be read."""
    return made_again(path, "" if path.exists() else "give a run's folder or its chains folder")


class StepStore:
    """Runs steps in order, each once; each one's fingerprint covers the file of the step before."""

    def __init__(self, folder: Path, inputs: str) -> None:
        """inputs: a fingerprint of what the first step reads."""
        self.folder = folder
        self.before = inputs
        self.counts: list[StepCount] = []

    def run(
        self,
        name: str,
        schema: pa.Schema,
        settings: object,
        make: Callable[[], tuple[list[Row], dict[str, int]]],
        unit: str = "chains",
        skipped: str = "",
    ) -> list[Row]:
        """Rows of step `name`: from its file if it matches, else from `make`, which gives rows and drop counts.

        A step in which a model refused requests is made again: what it answered is cached, and a refusal may be over.
        """
        material = json.dumps([self.before, name, settings], sort_keys=True, ensure_ascii=False, default=str)
        own = hashlib.sha256(material.encode()).hexdigest()
        path = self.folder / f"{name}.parquet"
        side = self.folder / f"{name}.json"
        if not (side.exists() and path.exists() and _fingerprint(path) == own) or _refused(side):
            rows, notes = make()
            path.unlink(missing_ok=True)  # of a step made again it has the same fingerprint
            write_json(side, {"notes": dict(sorted(notes.items()))})
            write_parquet(path, rows, schema, own)  # last: its fingerprint says the step is complete
        self.before = fingerprint(path)
        rows = read_parquet(path)
        notes = json.loads(side.read_text(encoding="utf-8"))["notes"]
        per_task = Counter(row["task"] for row in rows)
        self.counts.append(StepCount(name, unit, dict(sorted(per_task.items())), skipped, notes))
        return rows


def _refused(side: Path) -> bool:
    notes = json.loads(side.read_text(encoding="utf-8"))["notes"]
    return any(why.startswith("refused") for why in notes)


def _fingerprint(path: Path) -> str:
    try:
        return (pq.read_schema(path).metadata or {}).get(_FINGERPRINT, b"").decode()
    except (OSError, pa.ArrowException):
        return ""
