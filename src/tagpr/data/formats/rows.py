"""What kind of file a path is, by its content, and its rows: the one place that reads endings and first bytes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from tagpr.data.formats.delimited import csv_rows
from tagpr.data.formats.hub import hub_rows, on_hub
from tagpr.data.formats.json_list import json_records
from tagpr.data.formats.jsonl import Row, json_lines
from tagpr.data.formats.parquet import parquet_rows
from tagpr.data.formats.text import head_of, open_text
from tagpr.data.mapping import propose_fields
from tagpr.data.rejects import Rejects
from tagpr.errors import DataError
from tagpr.tasks import Task

_DELIMITED = (".csv", ".tsv", ".dat", ".tab")


class Container(StrEnum):
    """How a file packs its records."""

    JSONL = "jsonl"  # one object per line
    JSON = "json"  # one list, or objects over several lines
    CSV = "csv"  # a header line, then one row per line
    PARQUET = "parquet"
    HUB = "hub"  # a dataset of the Hugging Face hub
    FOLDER = "folder"


def container_of(path: Path) -> Container:
    """By the first bytes, then the ending. Raises DataError if there is no such file."""
    if on_hub(path):
        return Container.HUB
    if path.is_dir():
        return Container.FOLDER
    if not path.is_file():
        raise DataError(f"{path}: no such file; check the path")
    stat = path.stat()
    return _of_file(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _of_file(path: Path, _changed: int, _size: int) -> Container:
    if head_of(path, 4) == b"PAR1":
        return Container.PARQUET
    ending = next((end for end in reversed(path.suffixes) if end.lower() != ".gz"), "").lower()
    if ending == ".parquet":
        return Container.PARQUET  # damaged, which its reader says better
    if ending in _DELIMITED:
        return Container.CSV
    with open_text(path) as stream:
        lines = (line for line in stream if line.strip())
        line, alone = next(lines, "").strip(), next(lines, None) is None
    named_lines = ending in (".jsonl", ".ndjson")
    if line.startswith("{") and named_lines:
        return Container.JSONL
    if line.startswith("[") and not named_lines:
        return Container.JSON  # what follows the list, its reader says
    if line.startswith(("[", "{")):  # a value that is followed by more lines is one of many, whatever the file's name
        return Container.JSON if alone or not _is_json(line) else Container.JSONL
    looks_delimited = any(mark in line for mark in ",;\t|") and ending != ".json" and not named_lines
    return Container.CSV if looks_delimited else Container.JSONL


def rows_of(path: Path, rejects: Rejects, container: Container | None = None) -> Iterator[Row]:
    """Numbered rows of a file or hub dataset, read as `container` or as what it is. Raises DataError."""
    match container or container_of(path):
        case Container.HUB:
            return hub_rows(path)
        case Container.PARQUET:
            return parquet_rows(path, rejects)
        case Container.CSV:
            return csv_rows(path, rejects)
        case Container.JSON:
            return json_records(path, rejects)
        case Container.JSONL:
            return json_lines(path, rejects)
        case Container.FOLDER:
            raise DataError(f"{path}: is a folder; give the file")


@dataclass(frozen=True)
class Peek:
    """A file's kind and its first readable record; none in folders and unreadable files."""

    container: Container
    first: Mapping[str, object] | None


def peek(path: Path) -> Peek:
    """A file's kind and first record; kept, since every reader needs it. Raises DataError if there is no such file."""
    container = container_of(path)
    if container in (Container.FOLDER, Container.HUB):
        return Peek(container, None)
    stat = path.stat()
    return Peek(container, _first(path, container, stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=8)
def _first(path: Path, container: Container, _changed: int, _size: int) -> Mapping[str, object] | None:
    try:
        return next((row for _, row in rows_of(path, Rejects(skip=True), container)), None)
    except DataError:
        return None


def date_column(path: Path, task: Task) -> str:
    """The column of a file of interactions that looks like its date, "" if none does: one that `fields` should name."""
    first = peek(path).first
    known = {ours: ours for ours in ("user_id", "input", "output")}
    return "" if first is None else propose_fields([first], task, known).fields.get("date", "")


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
