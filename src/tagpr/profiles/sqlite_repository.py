"""`SQLiteRepository`: the embedded `ProfileRepository`, one file. Rows of a user lie together, in order of arrival."""

import json
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tagpr.errors import DataError
from tagpr.profiles.database import Database
from tagpr.tasks.types import Interaction

_SCHEMA = """
CREATE TABLE IF NOT EXISTS interactions (
  user_id TEXT NOT NULL, task TEXT NOT NULL, place INTEGER NOT NULL,
  id TEXT NOT NULL, date TEXT, fields TEXT NOT NULL,
  PRIMARY KEY (user_id, task, place)
) WITHOUT ROWID;
"""


class SQLiteRepository:
    """Histories in an SQLite file; safe for threads and processes."""

    def __init__(self, path: Path) -> None:
        """Raises DataError if the file is something else."""
        self.database = Database(path, _SCHEMA)

    def get(self, task: str, user_id: str) -> tuple[Interaction, ...]:
        """The user's interactions, in the order in which they were appended; empty for an unknown user."""
        return _history(self.database.connection, task, user_id)

    def users(self, task: str, after: str = "", limit: int | None = None) -> Sequence[str]:
        """Ids of users with a history, sorted by code points, those behind `after` only."""
        rows = self.database.connection.execute(
            "SELECT DISTINCT user_id FROM interactions WHERE user_id > ? AND task = ? ORDER BY user_id LIMIT ?",
            (after, task, -1 if limit is None else limit),
        )
        return [user for (user,) in rows]

    def append(self, task: str, user_id: str, items: Sequence[Interaction]) -> tuple[Interaction, ...]:
        """Add items, all or none, durable when it returns; returns them as stored."""
        named = [item if item.id else replace(item, id=uuid.uuid4().hex) for item in items]
        with self.database.writing() as connection:
            _add(connection, task, user_id, named)
        return tuple(named)

    def load(self, task: str, rows: Iterable[tuple[str, Interaction]]) -> int:
        """Add many users' items in one transaction; returns how many were new."""
        added, last, own = 0, "", list[Interaction]()
        with self.database.writing() as connection:
            for user_id, item in rows:
                if user_id != last and own:
                    added += _add(connection, task, last, own)
                    own = []
                last = user_id
                own.append(item if item.id else replace(item, id=uuid.uuid4().hex))
            if own:
                added += _add(connection, task, last, own)
        return added

    def export(self, task: str | None = None, user_id: str | None = None) -> Iterator[tuple[str, str, Interaction]]:
        """Every (task, user id, interaction), or those of one task or user, by user and in order."""
        rows = self.database.connection.execute(
            "SELECT task, user_id, id, date, fields FROM interactions WHERE (?1 IS NULL OR task = ?1) "
            "AND (?2 IS NULL OR user_id = ?2) ORDER BY user_id, task, place",
            (task, user_id),
        )
        for name, user, item, date, fields in rows:
            yield name, user, Interaction(item, json.loads(fields), date)

    def delete_user(self, user_id: str) -> int:
        """Remove everything of a user; the deleted bytes are overwritten."""
        with self.database.writing() as connection:
            removed = connection.execute("DELETE FROM interactions WHERE user_id = ?", (user_id,)).rowcount
        self.database.scrub()
        return removed

    def close(self) -> None:
        """Close all connections."""
        self.database.close()


def _history(connection: sqlite3.Connection, task: str, user_id: str) -> tuple[Interaction, ...]:
    rows = connection.execute(
        "SELECT id, date, fields FROM interactions WHERE user_id = ? AND task = ? ORDER BY place", (user_id, task)
    )
    return tuple(Interaction(item, json.loads(fields), date) for item, date, fields in rows)


def _add(connection: sqlite3.Connection, task: str, user_id: str, items: Sequence[Interaction]) -> int:
    """Insert those of `items` that are not there yet. Raises DataError if an id is another item's."""
    if not user_id:
        raise DataError("an interaction needs a user id; give one")
    own = {item.id: item for item in _history(connection, task, user_id)}
    place, added = len(own), 0
    for item in items:
        known = own.get(item.id)
        if known is not None:
            if (dict(known.fields), known.date) != (dict(item.fields), item.date):
                raise DataError(f"user '{user_id}': has another item of id '{item.id}'; give the new one its own id")
            continue
        fields = json.dumps(dict(item.fields), ensure_ascii=False)
        row = (user_id, task, place + added, item.id, item.date, fields)
        connection.execute("INSERT INTO interactions VALUES (?, ?, ?, ?, ?, ?)", row)
        own[item.id] = item
        added += 1
    return added
