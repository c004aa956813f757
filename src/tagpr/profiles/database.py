"""`Database`: an SQLite file for several threads and processes, whose acknowledged writes survive a kill.

WAL lets readers read while one writes; synchronous=FULL makes a commit wait for the disk; secure_delete overwrites what
is deleted, and `scrub` empties the log behind it, so that deleted text is on the disk no more.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tagpr.errors import DataError, RunError

BUSY_SECONDS = 30.0
"""How long a writer waits for another one."""


class Database:
    """One connection a thread; all closed by `close`."""

    def __init__(self, path: Path, schema: str) -> None:
        """Raises DataError if the file is no database, or one of another schema version."""
        self.path = path
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # SQLite's own waiting for a lock is not fair: a thread could wait forever
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.connection.executescript(schema)
        except sqlite3.DatabaseError as error:
            raise DataError(f"{path}: is no database of ours ({error}); move it away and try again") from None

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection, in autocommit mode."""
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            found = sqlite3.connect(self.path, BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
                found.execute(f"PRAGMA {pragma}")
            self._local.connection = found
            with self._lock:
                self._all.append(found)
        return found

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is on the disk when the block ends, and gone without a trace if it raises.

        Raises RunError if the disk is full or may not be written.
        """
        connection = self.connection
        with self._turn:
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                reason = f"cannot be written ({error}); free space or rights, and try again"
                raise RunError(f"{self.path}: {reason}") from None

    def scrub(self) -> None:
        """Empty the write-ahead log, which holds pages from before a deletion."""
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close every thread's connection."""
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
        self._local = threading.local()
