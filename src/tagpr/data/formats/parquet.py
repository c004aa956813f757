"""Rows of Parquet files, batch by batch: bytes as text, dates of any resolution as ISO text."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tagpr.data.formats.jsonl import Row
from tagpr.data.rejects import Rejects
from tagpr.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 4096
"""Rows in memory at once."""


def parquet_rows(path: Path, rejects: Rejects) -> Iterator[Row]:
    """(row number from 1, row) of a Parquet file; a row with a value that Python cannot hold is rejected alone.

    Raises DataError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            duplicate = next((name for i, name in enumerate(schema.names) if name in schema.names[:i]), None)
            if duplicate is not None:
                raise DataError(f"{path}: two columns are named {duplicate[:40]!r}; rename one")
            target = pa.schema([(field.name, _readable(field.type)) for field in schema])
            for batch in file.iter_batches(batch_size=BATCH):
                for row in _objects(pa.Table.from_batches([batch]).cast(target, safe=False)):
                    number += 1
                    if isinstance(row, str):
                        rejects.add(path, number, row)
                    else:
                        yield number, {key: plain(value) for key, value in row.items()}
    except OSError as error:
        raise DataError(f"{path}: cannot be read as Parquet ({_first_line(error)})") from None
    except (pa.ArrowException, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path}: not a sound Parquet file ({_first_line(error)})") from None
    if not number:
        raise DataError(f"{path}: the file has no rows")


def _objects(table: "pa.Table") -> Iterator[dict[str, object] | str]:
    """The rows as Python objects, or what is wrong with one: a date beyond the year 9999, text that is not UTF-8."""
    try:
        yield from table.to_pylist()
    except (OverflowError, ValueError):
        for place in range(table.num_rows):
            try:
                yield table.slice(place, 1).to_pylist()[0]
            except (OverflowError, ValueError) as error:
                yield f"a value cannot be read ({_first_line(error)})"


def plain(value: object) -> object:
    """A value as JSON would hold it: dates as text, bytes as the UTF-8 text they are, else as they are."""
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    return str(value) if hasattr(value, "isoformat") else value


def _readable(kind: "pa.DataType") -> "pa.DataType":
    """The same type with times in microseconds: finer ones become Python objects only with pandas installed."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if pa.types.is_time64(kind):
        return pa.time64("us")
    if pa.types.is_duration(kind):
        return pa.duration("us")
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _readable(field.type)) for field in kind])
    if pa.types.is_large_list(kind):
        return pa.large_list(_readable(kind.value_type))
    if pa.types.is_list(kind):
        return pa.list_(_readable(kind.value_type))
    return kind


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
