"""The profile store of a run: a copy of its histories that goes on growing, in `runs/NAME/serve/profiles.sqlite`."""

from pathlib import Path

from tagpr.profiles.repository import ProfileRepository, open_repository
from tagpr.serve.histories import Histories, RunHistories
from tagpr.serve.served_run import ServedRun


def store_path(run: ServedRun) -> Path:
    """Where a run's store is."""
    return run.folder.path / "serve" / "profiles.sqlite"


def feedback_path(run: ServedRun) -> Path:
    """Where a run's feedback is."""
    return run.folder.path / "serve" / "feedback.sqlite"


def open_store(run: ServedRun) -> ProfileRepository:
    """The run's store; made from the run's data when first opened, and from then on its own."""
    path = store_path(run)
    if not path.is_file():
        _make(run, path)
    return open_repository(path)


def histories_of(run: ServedRun) -> Histories:
    """The histories that questions are asked with: the store's if there is one, else those of the run's data."""
    return open_store(run) if store_path(run).is_file() else RunHistories(run.folder, run.tasks)


def _make(run: ServedRun, path: Path) -> None:
    """Fill a new store under another name, which it loses when complete: a kill leaves none that is half full."""
    work = path.with_name(f".{path.name}.new")
    for left in (work, work.with_name(work.name + "-wal"), work.with_name(work.name + "-shm")):
        left.unlink(missing_ok=True)
    new, histories = open_repository(work), RunHistories(run.folder, run.tasks)
    for task in run.tasks:
        new.load(task, ((user, item) for user in histories.users(task) for item in histories.get(task, user)))
    new.close()
    work.rename(path)
