"""The users' histories as a run's examples show them: everything each user did, once, oldest first where dates tell."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property
from typing import Protocol

from tagpr.data.examples import read_examples
from tagpr.errors import DataError
from tagpr.runs.layout import RunFolder
from tagpr.tasks.types import Example, Interaction

History = tuple[Interaction, ...]


class UnknownUserError(DataError):
    """There is no history of the user."""


class Histories(Protocol):
    """Where histories come from: a run's data, or a store that goes on growing (`tagpr.profiles.repository`)."""

    def get(self, task: str, user_id: str) -> History:
        """The user's interactions with a task, oldest first; empty for an unknown user."""
        ...

    def users(self, task: str) -> Iterable[str]:
        """Ids of the users who have a history with the task, sorted."""
        ...


class RunHistories:
    """The histories in a run's data stage. Read when first asked for."""

    def __init__(self, folder: RunFolder, tasks: Iterable[str]) -> None:
        self.folder, self.tasks = folder, tuple(tasks)

    @cached_property
    def by_task(self) -> Mapping[str, Mapping[str, History]]:
        """Task -> user id -> history."""
        return {task: _by_user(self._examples(task)) for task in self.tasks}

    def get(self, task: str, user_id: str) -> History:
        """The user's interactions with a task; empty for an unknown user."""
        return self.by_task.get(task, {}).get(user_id, ())

    def users(self, task: str) -> Iterable[str]:
        """Ids of the users who have a history with the task, sorted."""
        return sorted(self.by_task.get(task, {}))

    def _examples(self, task: str) -> list[Example]:
        files = (self.folder.train(task), self.folder.heldout(task))
        return [example for path in files if path.is_file() for example in read_examples(path)]


def require_user(histories: Histories, task: str, user_id: str) -> History:
    """The user's history. Raises UnknownUserError naming the nearest id if there is none."""
    history = histories.get(task, user_id)
    if history:
        return history
    known = list(histories.users(task))
    near = get_close_matches(user_id, known, 1)
    hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known[:3]) or 'none'} ({len(known)} users)"
    raise UnknownUserError(f"task {task}: no history of user '{user_id}'; {hint}")


def _by_user(examples: Iterable[Example]) -> dict[str, History]:
    profiles: dict[str, list[History]] = {}
    for example in examples:
        profiles.setdefault(example.user_id, []).append(example.profile)
    merged = {user: merge(sorted(own, key=len, reverse=True)) for user, own in profiles.items()}
    return {user: history for user, history in merged.items() if history}


def merge(profiles: Iterable[History]) -> History:
    """Every item of several profiles of one user once. An item stands behind the one it followed in its own profile.

    Two different items of one id both stay; the later one found gets `#` before its id.
    """
    merged: list[Interaction] = []
    known: dict[tuple[str, str | None, tuple[tuple[str, str], ...]], Interaction] = {}
    for profile in profiles:
        place = 0
        for item in profile:
            key = (item.id, item.date, tuple(sorted(item.fields.items())))
            if key in known:
                place = merged.index(known[key]) + 1
                continue
            name, taken = item.id, {other.id for other in merged}
            while name in taken:
                name = f"#{name}"
            known[key] = item if name == item.id else replace(item, id=name)
            merged.insert(place, known[key])
            place += 1
    if all(item.date for item in merged):
        merged.sort(key=lambda item: item.date or "")
    return tuple(merged)
