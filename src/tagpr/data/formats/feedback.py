"""The feedback that `tagpr serve` keeps in `runs/NAME/serve/feedback.sqlite`, as rows; also while it serves."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from tagpr.data.formats.jsonl import Row
from tagpr.errors import DataError


def is_feedback_store(path: Path | str) -> bool:
    """Whether a path names such a file, by its ending."""
    return Path(path).suffix == ".sqlite"


def feedback_digest(path: Path) -> str:
    """SHA-256 of the judgements themselves: new ones may still be in the log beside the file."""
    rows = [json.dumps(record, sort_keys=True) for _, record in feedback_rows(path)]
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def feedback_rows(path: Path) -> Iterator[Row]:
    """(number from 1, judgement), oldest first. Raises DataError if there is no such file or it is another's."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; `tagpr serve` keeps feedback in runs/NAME/serve/feedback.sqlite")
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            records = [json.loads(record) for (record,) in connection.execute("SELECT record FROM feedback")]
        finally:
            connection.close()
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise DataError(f"{path}: holds no feedback of `tagpr serve` ({error}); give its feedback.sqlite") from None
    records.sort(key=lambda record: str(record.get("date", "")))
    yield from enumerate(records, 1)
