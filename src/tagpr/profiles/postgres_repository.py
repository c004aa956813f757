"""`PostgresRepository`: the `ProfileRepository` of several servers, in a PostgreSQL database (extra `postgres`).

PostgreSQL commits durably and lets concurrent commits wait for the disk together by itself. Appends to one user take
turns by an advisory lock. `delete_user` deletes and vacuums; what PostgreSQL keeps in its write-ahead log, on freed
pages until they are used again, and in backups is its administrator's.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import LiteralString

from tagpr.errors import DataError, RunError
from tagpr.profiles.new_items import not_yet, users_in, with_ids
from tagpr.tasks.types import Interaction

try:
    import psycopg
    from psycopg_pool import ConnectionPool, PoolTimeout
except ModuleNotFoundError as error:
    raise RunError(f"profiles in PostgreSQL need {error.name}; pip install 'tagpr[postgres]'") from None

_SCHEMA: LiteralString = """
CREATE TABLE IF NOT EXISTS tagpr_interactions (
  space TEXT COLLATE "C" NOT NULL, user_id TEXT COLLATE "C" NOT NULL, task TEXT COLLATE "C" NOT NULL,
  place BIGINT NOT NULL, id TEXT NOT NULL, date TEXT, fields TEXT NOT NULL,
  PRIMARY KEY (space, user_id, task, place)
);
CREATE TABLE IF NOT EXISTS tagpr_filled (space TEXT NOT NULL, task TEXT NOT NULL, PRIMARY KEY (space, task));
"""
_MOST_CONNECTIONS = 16
_WAIT_SECONDS = 30.0

Connection = psycopg.Connection[tuple[object, ...]]


class PostgresRepository:
    """Histories in a database; safe for threads, processes and machines."""

    def __init__(self, url: str, space: str) -> None:
        """Raises RunError if the database cannot be reached, DataError if its tables are something else."""
        self.space = space
        self._pool = ConnectionPool(
            url, min_size=1, max_size=_MOST_CONNECTIONS, timeout=_WAIT_SECONDS, open=False, name="tagpr"
        )
        try:
            self._pool.open(wait=True, timeout=_WAIT_SECONDS)
        except PoolTimeout:
            self._pool.close()
            raise RunError(
                f"no connection to the PostgreSQL database within {_WAIT_SECONDS:.0f} s; check the URL and the server"
            ) from None
        with self._connected() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('tagpr_schema'))")  # two servers starting at once
            connection.execute(_SCHEMA)
            connection.execute("SELECT space, user_id, task, place, id, date, fields FROM tagpr_interactions LIMIT 0")

    def get(self, task: str, user_id: str) -> tuple[Interaction, ...]:
        """The user's interactions, in the order in which they were appended; empty for an unknown user."""
        if "\x00" in user_id:  # which PostgreSQL cannot hold
            return ()
        with self._connected() as connection:
            return self._history(connection, task, user_id)

    def users(self, task: str, after: str = "", limit: int | None = None) -> Sequence[str]:
        """Ids of users with a history, sorted by code points, those behind `after` only."""
        with self._connected() as connection:
            rows = connection.execute(
                "SELECT DISTINCT user_id FROM tagpr_interactions WHERE space = %s AND task = %s AND user_id > %s "
                "ORDER BY user_id LIMIT %s",
                (self.space, task, after, limit),
            )
            return [str(user) for (user,) in rows]

    def append(self, task: str, user_id: str, items: Sequence[Interaction]) -> tuple[Interaction, ...]:
        """Add items, all or none, durable when it returns; returns them as stored."""
        named = with_ids(items)
        with self._connected() as connection:
            self._add(connection, task, user_id, named)
        return tuple(named)

    def load(self, task: str, rows: Iterable[tuple[str, Interaction]]) -> int:
        """Fill a task that was never filled, in one transaction; returns how many items that were."""
        with self._connected() as connection:
            first = connection.execute(
                "INSERT INTO tagpr_filled VALUES (%s, %s) ON CONFLICT DO NOTHING", (self.space, task)
            ).rowcount
            there = "SELECT 1 FROM tagpr_interactions WHERE space = %s AND task = %s LIMIT 1"
            if not first or connection.execute(there, (self.space, task)).fetchone():  # filled without a mark, formerly
                return 0
            return sum(self._add(connection, task, user_id, items) for user_id, items in users_in(rows))

    def export(self, task: str | None = None, user_id: str | None = None) -> Iterator[tuple[str, str, Interaction]]:
        """Every (task, user id, interaction), or those of one task or user, by user and in order."""
        with self._connected() as connection, connection.cursor(name="tagpr_export") as cursor:
            cursor.execute(
                "SELECT task, user_id, id, date, fields FROM tagpr_interactions WHERE space = %(space)s "
                "AND (%(task)s::text IS NULL OR task = %(task)s) AND (%(user)s::text IS NULL OR user_id = %(user)s) "
                "ORDER BY user_id, task, place",
                {"space": self.space, "task": task, "user": user_id},
            )
            for name, user, item, date, fields in cursor:
                yield str(name), str(user), _interaction(item, date, fields)

    def delete_user(self, user_id: str) -> int:
        """Remove everything of a user; see the module about what PostgreSQL itself keeps."""
        with self._connected() as connection:
            removed = connection.execute(
                "DELETE FROM tagpr_interactions WHERE space = %s AND user_id = %s", (self.space, user_id)
            ).rowcount
        with self._connected() as connection:
            connection.commit()
            connection.autocommit = True  # VACUUM takes no transaction
            try:
                connection.execute("VACUUM tagpr_interactions")
            finally:
                connection.autocommit = False
        return removed

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A connection whose transaction is committed at the end, or rolled back. Raises RunError, DataError."""
        try:
            with self._pool.connection() as connection:
                yield connection
        except PoolTimeout:
            raise RunError("the PostgreSQL database does not answer; check the server, and try again") from None
        except psycopg.DataError as error:
            raise DataError(
                f"PostgreSQL refuses the text ({_first_line(error)}); take the NUL characters out"
            ) from None
        except psycopg.OperationalError as error:
            raise RunError(f"PostgreSQL: {_first_line(error)}; check the server, and try again") from None
        except (psycopg.ProgrammingError, psycopg.IntegrityError) as error:
            raise DataError(f"PostgreSQL: {_first_line(error)}; is the table tagpr_interactions ours?") from None

    def _history(self, connection: Connection, task: str, user_id: str) -> tuple[Interaction, ...]:
        rows = connection.execute(
            "SELECT id, date, fields FROM tagpr_interactions WHERE space = %s AND user_id = %s AND task = %s "
            "ORDER BY place",
            (self.space, user_id, task),
        )
        return tuple(_interaction(*row) for row in rows)

    def _add(self, connection: Connection, task: str, user_id: str, items: Sequence[Interaction]) -> int:
        """Insert those of `items` that are not there yet. Raises DataError if an id is another item's."""
        turn = f"{self.space}\n{task}\n{user_id}"
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (turn,))
        history = self._history(connection, task, user_id)
        new = not_yet(user_id, history, items)
        rows = [
            (self.space, user_id, task, place, item.id, item.date, json.dumps(dict(item.fields), ensure_ascii=False))
            for place, item in enumerate(new, len(history))
        ]
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO tagpr_interactions VALUES (%s, %s, %s, %s, %s, %s, %s)", rows)
        return len(rows)


def _interaction(item: object, date: object, fields: object) -> Interaction:
    return Interaction(str(item), json.loads(str(fields)), None if date is None else str(date))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
