"""Rows of CSV and Parquet files, numbered as an editor shows them, for the checks in `jsonl.py`."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tagpr.data.formats.jsonl import LONGEST_FIELD, Rejects
from tagpr.errors import DataError


def csv_rows(path: Path, rejects: Rejects, delimiter: str = "") -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, row) of a CSV or TSV file with a header line; the delimiter is read off the header.

    Line numbers count the file's lines, so a quoted field with newlines moves them as an editor does.
    """
    csv.field_size_limit(LONGEST_FIELD * 2)
    try:
        with open(path, encoding="utf-8-sig", errors="strict", newline="") as stream:
            header = stream.readline()
            if not header.strip():
                raise DataError(f"{path}: the file is empty; the first line must name the columns")
            mark = delimiter or max(",;\t", key=header.count)
            stream.seek(0)
            reader = csv.reader(stream, delimiter=mark)
            names = next(reader)
            for row in reader:
                if not row:
                    continue
                if len(row) != len(names):
                    reason = f"has {len(row)} columns, the header has {len(names)}; quote fields that hold {mark!r}"
                    rejects.add(path, reader.line_num, reason, mark.join(row))
                    continue
                yield reader.line_num, dict(zip(names, row, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}: not readable as CSV ({error}); save it as UTF-8 CSV with a header") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path in the recipe") from None


def parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number from 1, row) of a Parquet file, batch by batch."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        number = 0
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=4096):
                for row in batch.to_pylist():
                    number += 1
                    yield number, {key: str(v) if hasattr(v, "isoformat") else v for key, v in row.items()}
    except OSError as error:
        raise DataError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a sound Parquet file ({str(error).splitlines()[0]})") from None
    if not number:
        raise DataError(f"{path}: the file has no rows")
