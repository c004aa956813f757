"""The profile store of a run: a copy of its histories that goes on growing.

It is `runs/NAME/serve/profiles.sqlite`, or, with `TAGPR_PROFILES=postgresql://...`, rows of that database under the
run's name, which several servers share.
"""

import os
from pathlib import Path

from tagpr.errors import RecipeError
from tagpr.profiles.repository import ProfileRepository, open_repository
from tagpr.serve.histories import Histories, RunHistories
from tagpr.serve.served_run import ServedRun

PROFILES = "TAGPR_PROFILES"
"""Environment variable with the URL of a PostgreSQL database; it may hold a password, so it is no option."""


def store_path(run: ServedRun) -> Path:
    """Where a run's store is."""
    return run.folder.path / "serve" / "profiles.sqlite"


def feedback_path(run: ServedRun) -> Path:
    """Where a run's feedback is."""
    return run.folder.path / "serve" / "feedback.sqlite"


def open_store(run: ServedRun) -> ProfileRepository:
    """The run's store; made from the run's data when first opened, and from then on its own.

    Raises RecipeError for a `TAGPR_PROFILES` that is no PostgreSQL URL, RunError if that cannot be reached.
    """
    if url := _url():
        store = open_repository(url, run.name)
        _fill(store, run)
        return store
    path = store_path(run)
    if not path.is_file():
        _make(run, path)
    return open_repository(path)


def has_store(run: ServedRun) -> bool:
    """Whether the run has a store, or a database is named that holds it."""
    return bool(_url()) or store_path(run).is_file()


def place_of(run: ServedRun) -> Path:
    """Where the store is, for messages: its file, or the environment variable that names its database."""
    return Path(f"${PROFILES}") if _url() else store_path(run)


def histories_of(run: ServedRun) -> Histories:
    """The histories that questions are asked with: the store's if there is one, else those of the run's data."""
    return open_store(run) if has_store(run) else RunHistories(run.folder, run.tasks)


def _url() -> str:
    url = os.environ.get(PROFILES, "")
    if url and not url.startswith(("postgresql://", "postgres://")):
        raise RecipeError(f"{PROFILES}: must be postgresql://USER@HOST/DATABASE")
    return url


def _make(run: ServedRun, path: Path) -> None:
    """Fill a new store under another name, which it loses when complete: a kill leaves none that is half full."""
    work = path.with_name(f".{path.name}.new")
    for left in (work, work.with_name(work.name + "-wal"), work.with_name(work.name + "-shm")):
        left.unlink(missing_ok=True)
    new = open_repository(work)
    _fill(new, run)
    new.close()
    work.rename(path)


def _fill(store: ProfileRepository, run: ServedRun) -> None:
    """The run's histories, each task in one transaction, unless the store was filled before."""
    histories = RunHistories(run.folder, run.tasks)
    for task in run.tasks:
        store.load(task, ((user, item) for user in histories.users(task) for item in histories.get(task, user)))
