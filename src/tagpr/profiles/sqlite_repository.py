"""`SQLiteRepository`: the embedded `ProfileRepository`, one file. Rows of a user lie together, in order of arrival."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tagpr.profiles.database import Database
from tagpr.profiles.new_items import not_yet, users_in, with_ids
from tagpr.tasks.types import Interaction

_SCHEMA = """
CREATE TABLE IF NOT EXISTS interactions (
  user_id TEXT NOT NULL, task TEXT NOT NULL, place INTEGER NOT NULL,
  id TEXT NOT NULL, date TEXT, fields TEXT NOT NULL,
  PRIMARY KEY (user_id, task, place)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS filled (task TEXT PRIMARY KEY) WITHOUT ROWID;
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
        named = with_ids(items)
        self.database.write(lambda connection: _add(connection, task, user_id, named))
        return tuple(named)

    def load(self, task: str, rows: Iterable[tuple[str, Interaction]]) -> int:
        """Fill a task that was never filled, in one transaction; returns how many items that were."""

        def work(connection: sqlite3.Connection) -> int:
            if not connection.execute("INSERT OR IGNORE INTO filled VALUES (?)", (task,)).rowcount:
                return 0
            return sum(_add(connection, task, user_id, items) for user_id, items in users_in(rows))

        return self.database.write(work)

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
        statement = "DELETE FROM interactions WHERE user_id = ?"
        removed = self.database.write(lambda connection: connection.execute(statement, (user_id,)).rowcount)
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
    history = _history(connection, task, user_id)
    new = not_yet(user_id, history, items)
    rows = [
        (user_id, task, place, item.id, item.date, json.dumps(dict(item.fields), ensure_ascii=False))
        for place, item in enumerate(new, len(history))
    ]
    connection.executemany("INSERT INTO interactions VALUES (?, ?, ?, ?, ?, ?)", rows)
    return len(rows)
