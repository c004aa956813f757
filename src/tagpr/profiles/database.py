"""`Database`: an SQLite file for several threads and processes, whose acknowledged writes survive a kill.

WAL lets readers read while one writes; synchronous=FULL makes a commit wait for the disk; secure_delete overwrites what
is deleted, and `scrub` empties the log behind it, so that deleted text is on the disk no more.

Group commit: waiting for the disk is nearly all that a small write costs. One thread at a time leads: it takes every
write that waits into one transaction, wakes their threads, and hands the lead to the first of those who came meanwhile.
So threads that write at once wait for the disk once together. Each write is a savepoint of its own: one that fails
leaves the others alone.
"""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from tagpr.errors import DataError, RunError

BUSY_SECONDS = 30.0
"""How long a writer waits for another one."""
T = TypeVar("T")


class _Write(Generic[T]):
    """One thread's write, from waiting to done."""

    def __init__(self, work: Callable[[sqlite3.Connection], T]) -> None:
        self.work = work
        self.woken = threading.Event()  # it is done, or its thread is to lead
        self.done = False
        self.value: T | None = None
        self.error: BaseException | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        """Do the work inside a savepoint; an error undoes it alone."""
        connection.execute("SAVEPOINT write")
        try:
            self.value = self.work(connection)
        except Exception as error:
            self.error = error
            if not connection.in_transaction:  # a full disk ends the whole transaction
                raise
            connection.execute("ROLLBACK TO write")
        connection.execute("RELEASE write")


class Database:
    """One connection a thread; all closed by `close`."""

    def __init__(self, path: Path, schema: str) -> None:
        """Raises DataError if the file is no database, or one of another schema version."""
        self.path = path
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._led = False  # whether a thread leads; SQLite's own waiting for a lock is not fair
        self._waiting: list[_Write] = []
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

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, once its changes are on the disk; if it raises, they are gone without a trace.

        Raises RunError if the disk is full or may not be written; then nothing was changed.
        """
        own = _Write(work)
        with self._lock:
            self._waiting.append(own)
            leads, self._led = not self._led, True
        if not leads:
            try:
                own.woken.wait()
            except BaseException:  # Ctrl-C: nobody must wait for this thread to lead
                self._give_up(own)
                raise
        if not own.done:
            self._lead()
        if isinstance(own.error, sqlite3.OperationalError):
            reason = f"cannot be written ({own.error}); free space or rights, and try again"
            raise RunError(f"{self.path}: {reason}") from None
        if own.error is not None:
            raise own.error
        return own.value  # pyright: ignore[reportReturnType]: without an error it is what work returned

    def _lead(self) -> None:
        """Commit everything that waits, then wake those threads and the next leader."""
        with self._lock:
            together, self._waiting = self._waiting, []
        try:
            self._commit(together)
        finally:
            with self._lock:
                after = self._waiting[:1]
                self._led = bool(after)
            for write in (*together, *after):
                write.woken.set()

    def _give_up(self, own: _Write) -> None:
        """Take a write back that its thread no longer waits for, and pass the lead on if it was its turn."""
        with self._lock:
            if own not in self._waiting:
                return
            self._waiting.remove(own)
            if own.woken.is_set():
                after = self._waiting[:1]
                self._led = bool(after)
                for write in after:
                    write.woken.set()

    def _commit(self, together: list[_Write]) -> None:
        """All of `together` in one transaction; an error of the transaction is everybody's."""
        connection = self.connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for write in together:
                write.run(connection)
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            for write in together:
                write.error = error if write.error is None else write.error
            if not isinstance(error, Exception):
                raise
        finally:
            for write in together:
                write.done = True

    def scrub(self) -> None:
        """Empty the write-ahead log, which holds pages from before a deletion.

        Raises RunError if another connection reads an older state for BUSY_SECONDS, for which SQLite keeps those pages.
        """
        busy, *_ = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise RunError(
                f"{self.path}: another process reads it, so that what was deleted is still in its log beside it; "
                "end that process, and the same command finishes the deletion"
            )

    def close(self) -> None:
        """Close every thread's connection."""
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
        self._local = threading.local()
