"""Readers of single interactions, one row each: JSON Lines, JSON, CSV, Parquet, and posts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tagpr.data.formats.protocol import Source
from tagpr.data.formats.rows import Container, peek, rows_of
from tagpr.data.split import Item


@dataclass(frozen=True)
class TableReader:
    """Rows with user_id, input and output."""

    name: str
    says: str
    container: Container

    def guess(self, path: Path) -> float:
        """By the file's kind; a row that brings a history along is a question, not an interaction."""
        found = peek(path)
        if found.container is not self.container:
            return 0.0
        if found.first is None:
            return 0.1  # reading it says what is wrong
        return 0.1 if isinstance(found.first.get("profile"), list) else 0.5

    def read(self, path: Path, source: Source) -> Sequence[Item]:
        """Every row as an item."""
        return source.items(rows_of(path, source.rejects, self.container), path)


@dataclass(frozen=True)
class PostsReader:
    """Rows with user_id, title and content, in any kind of file; the card says which one is the target."""

    name: str = "posts"
    says: str = "posts, one per line (title, content)"

    def guess(self, path: Path) -> float:
        """By the columns of the first row."""
        first = peek(path).first
        if first is None or isinstance(first.get("profile"), list):
            return 0.0
        return 0.7 if "content" in first and "title" in first and "input" not in first else 0.0

    def read(self, path: Path, source: Source) -> Sequence[Item]:
        """Every row as an item."""
        return source.items(rows_of(path, source.rejects), path)


TABLES = (
    TableReader("jsonl", "JSONL, one interaction per line", Container.JSONL),
    TableReader("json", "JSON, one object per interaction", Container.JSON),
    TableReader("csv", "CSV, one interaction per line", Container.CSV),
    TableReader("parquet", "Parquet, one interaction per row", Container.PARQUET),
)
