"""Writing and reading examples, an exact round trip: JSONL for run folders, Parquet for size; by the file's ending."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagpr.errors import DataError
from tagpr.files import write_jsonl
from tagpr.on_disk import open_lines
from tagpr.stages import made_again
from tagpr.tasks import Example, Interaction

if TYPE_CHECKING:
    import pyarrow as pa

_KEYS = ("id", "user_id", "task", "input", "target", "date", "query")


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Write examples to `path` (.jsonl or .parquet), atomically."""
    if path.suffix == ".parquet":
        _write_parquet(path, examples)
    else:
        write_jsonl(path, (_row(example) for example in examples))


def read_examples(path: Path) -> Sequence[Example]:
    """What `write_examples` wrote; of a JSONL file each example is read when it is asked for.

    Raises DataError if the file is missing or damaged, there or when the damaged example is asked for.
    """
    with _reading(path):
        if path.suffix == ".parquet":
            return [_example(row) for row in _read_parquet(path)]

        def decode(line: bytes) -> Example:
            with _reading(path):
                return _example(json.loads(line))

        rows = open_lines(path, decode)
    if rows:
        _ = rows[-1]  # a file that was cut
    return rows


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); {made_again(path)}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({str(error).splitlines()[0]}); {made_again(path)}") from None


def _row(example: Example) -> dict[str, Any]:
    row: dict[str, Any] = {key: getattr(example, key) for key in _KEYS}
    row["fields"] = dict(example.fields)
    row["profile"] = [{"id": i.id, "date": i.date, "fields": dict(i.fields)} for i in example.profile]
    return row


def _example(row: dict[str, Any]) -> Example:
    profile = tuple(Interaction(i["id"], dict(i["fields"]), i["date"]) for i in row["profile"])
    return Example(**{key: row[key] for key in _KEYS}, fields=dict(row["fields"]), profile=profile)


def _schema() -> "pa.Schema":
    import pyarrow as pa

    fields = pa.map_(pa.string(), pa.string())
    entry = pa.struct([("id", pa.string()), ("date", pa.string()), ("fields", fields)])
    columns = [(key, pa.string()) for key in _KEYS]
    return pa.schema([*columns, ("fields", fields), ("profile", pa.list_(entry))])


def _write_parquet(path: Path, examples: Iterable[Example]) -> None:
    import os

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for example in examples:
        row = _row(example)
        row["fields"] = list(row["fields"].items())
        row["profile"] = [{**entry, "fields": list(entry["fields"].items())} for entry in row["profile"]]
        rows.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    pq.write_table(pa.Table.from_pylist(rows, schema=_schema()), temporary)
    os.replace(temporary, path)


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()
