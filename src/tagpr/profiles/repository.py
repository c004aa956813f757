"""`ProfileRepository`: users' histories that go on growing, behind one interface; `open_repository` opens it.

Acknowledged is durable: when `append` returns, the items survive a kill and a power cut. A user's history is never
mixed with another's, whatever the ids look like. `store.py` is the other kind of store: built once, read by many.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tagpr.tasks.types import Interaction

History = tuple[Interaction, ...]


class ProfileRepository(Protocol):
    """Histories by task and user id."""

    def get(self, task: str, user_id: str) -> History:
        """The user's interactions with a task, in the order in which they were appended; empty for an unknown user."""
        ...

    def users(self, task: str, after: str = "", limit: int | None = None) -> Sequence[str]:
        """Ids of users with a history, sorted, those behind `after` only."""
        ...

    def append(self, task: str, user_id: str, items: Sequence[Interaction]) -> History:
        """Add items, all or none; returns them as stored, an item without an id with a new one.

        An item that is there already, the same in every part, is not added again, so that a caller may try again.
        Raises DataError if an item's id belongs to another item of the user.
        """
        ...

    def load(self, task: str, rows: Iterable[tuple[str, Interaction]]) -> int:
        """Fill a task with many users' items in one go, all or none; returns how many. Raises as `append` does.

        A task is filled once: whoever was deleted since, and be it everybody, does not come back by a second call.
        """
        ...

    def export(self, task: str | None = None, user_id: str | None = None) -> Iterator[tuple[str, str, Interaction]]:
        """Every (task, user id, interaction), or those of one task or user."""
        ...

    def delete_user(self, user_id: str) -> int:
        """Remove everything of a user, from the disk too; returns how many items that were."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


def open_repository(place: Path | str, space: str = "") -> ProfileRepository:
    """The repository in a file, or in the PostgreSQL database of a URL (`postgresql://...`), made if it is not there.

    space: whose rows these are in a database that several runs share. Raises DataError if the file or the tables are
    something else, RunError if the database cannot be reached.
    """
    if isinstance(place, str):
        from tagpr.profiles.postgres_repository import PostgresRepository

        return PostgresRepository(place, space)
    from tagpr.profiles.sqlite_repository import SQLiteRepository

    return SQLiteRepository(place)
