"""Amazon Reviews'23 as DPL uses them: a user's review to write, the earlier ones as history, the products beside it.

`main` rows: user_id, profile (earlier reviews, oldest first), data (the review to write); a review has rating, title,
text, asin and timestamp. `meta` rows: asin, title, description. Both as JSONL, JSON or Parquet; the file of products is
the one whose name has `meta` where the reviews' has `main`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tagpr.data.formats.chats import read_questions
from tagpr.data.formats.profiles import profile_of, record_text
from tagpr.data.formats.protocol import Source
from tagpr.data.formats.rows import peek, rows_of
from tagpr.data.ids import example_id
from tagpr.data.rejects import Rejects
from tagpr.data.values import absent
from tagpr.errors import DataError
from tagpr.tasks import Example, Interaction, Task

NEEDED = ("rating", "title", "text", "asin")
UNKNOWN = "(unknown product)"


@dataclass(frozen=True)
class AmazonReader:
    """Reader of DPL's main file with its products."""

    name: str = "amazon-dpl"
    says: str = "Amazon Reviews'23 as DPL has them (user_id, profile, data; products beside it)"

    def guess(self, path: Path) -> float:
        """By the review to write under `data`."""
        first = peek(path).first or {}
        data = first.get("data")
        return 0.95 if "user_id" in first and isinstance(data, Mapping) and "asin" in data else 0.0

    def also_reads(self, path: Path) -> list[Path]:
        """The products."""
        beside = _products_of(path)
        return [beside] if beside != path and beside.is_file() else []

    def read(self, path: Path, source: Source) -> list[Example]:
        """One example per row. Raises DataError if the products are not beside the reviews."""
        beside = _products_of(path)
        if beside == path or not beside.is_file():
            raise DataError(f"{path}: no file of its products beside it; name them main... and meta...")
        products = _products(beside, source.rejects)
        return read_questions(path, source, lambda number, row: _example(row, source.task, products))


def _products_of(path: Path) -> Path:
    return path.with_name(path.name.replace("main", "meta"))


def _products(path: Path, rejects: Rejects) -> dict[str, tuple[str, str]]:
    """asin -> title and description."""
    found = {}
    for line, row in rows_of(path, rejects):
        try:
            lines = row.get("description")
            text = " ".join(map(str, lines)) if isinstance(lines, list) else "" if absent(lines) else str(lines)
            found[record_text(row, "asin")] = record_text(row, "title"), text
        except ValueError as error:
            rejects.add(path, line, str(error), row)
    return found


def _example(row: Mapping[str, object], task: Task, products: Mapping[str, tuple[str, str]]) -> Example:
    user = record_text(row, "user_id")
    asked, data = _review(row.get("data"), products)
    history = []
    for place, entry in enumerate(profile_of(row, NEEDED)):
        past, fields = _review(entry, products)
        history.append(Interaction(str(place), fields, past))
    text = data.pop("text")
    if not text.strip():
        raise ValueError("field 'data': the review to write has no text")
    name = f"{record_text(data, 'asin')}-{asked or ''}"
    return Example(example_id(user, name), user, task.name, data["product"], text, tuple(history), asked, fields=data)


def _review(value: object, products: Mapping[str, tuple[str, str]]) -> tuple[str | None, dict[str, str]]:
    """(when it was written, the fields that a card can show)."""
    if not isinstance(value, Mapping):
        raise ValueError("field 'data' must be a review: rating, title, text, asin, timestamp")
    asin = record_text(value, "asin")
    title, description = products.get(asin, (UNKNOWN, ""))
    fields = {"rating": record_text(value, "rating"), "asin": asin, "product": title, "description": description}
    fields |= {name: "" if absent(value.get(name)) else record_text(value, name) for name in ("title", "text")}
    return _date(value.get("timestamp")), fields


def _date(value: object) -> str | None:
    """Milliseconds since 1970, as the reviews have them."""
    if absent(value):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("field 'timestamp' must be milliseconds since 1970")
    try:
        return datetime.fromtimestamp(float(value) / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"field 'timestamp': {str(value)[:40]!r} is no number of milliseconds since 1970") from None
