"""`load_splits`: every source of a recipe, read, split and counted. The door of this room."""

from pathlib import Path

from tagpr.data.jsonl import Rejects, jsonl_items
from tagpr.data.records import Splits, by_user, choose_some, need_examples, split_items
from tagpr.data.settings import DataSettings, SourceSettings
from tagpr.errors import DataError, RecipeError
from tagpr.tasks import load_task


def load_splits(settings: DataSettings, seed: int, folder: Path) -> dict[str, Splits]:
    """Train and held-out examples of every source, by task name, in the recipe's order.

    `folder` is where relative paths of the recipe start. Lines skipped under `on_error: skip` stand with their reasons
    in `report["rejects"]`. Raises DataError (one line, file and line named) and RecipeError (a task card or setting).
    """
    splits: dict[str, Splits] = {}
    for source in settings.sources:
        rejects = Rejects(skip=source.on_error == "skip")
        one = load_source(source, seed, folder, rejects)
        if one.task.name in splits:
            raise RecipeError(f"data.sources: task {one.task.name} stands twice; give one source a task")
        splits[one.task.name] = one
    return splits


def load_source(source: SourceSettings, seed: int, folder: Path, rejects: Rejects) -> Splits:
    """One source of a recipe."""
    task = load_task(source.task)
    path = folder / source.path
    if source.reader == "bundled" or (source.reader == "auto" and not source.path):
        from tagpr.data.bundled import bundled_items

        origin = "bundled Debian sample"
        items = bundled_items(task.name)
    elif source.reader in ("auto", "jsonl"):
        origin = source.path
        items = jsonl_items(path, task, source.fields, rejects)
        _need_history(items, origin, source, rejects)
    else:
        raise DataError(f"data.sources: reader {source.reader!r} is not known")
    train, heldout, how = split_items(
        task,
        items,
        seed=seed,
        heldout_per_user=source.heldout_per_user,
        min_history=source.min_history,
        max_history=source.max_history,
    )
    need_examples(task, train, "training", origin)
    need_examples(task, heldout, "held-out", origin)
    report: dict[str, object] = {
        "origin": origin,
        "users": len(by_user(items)),
        "items": len(items),
        "split": how,
        "train": len(train),
        "heldout": len(heldout),
        "rejects": rejects.rows,
    }
    train = choose_some(train, source.max_train, seed)
    heldout = choose_some(heldout, source.max_heldout, seed)
    report |= {"train_used": len(train), "heldout_used": len(heldout)}
    return Splits(task, train, heldout, report)


def _need_history(items: list, origin: str, source: SourceSettings, rejects: Rejects) -> None:  # type: ignore[type-arg]
    """A user with a single item has no history to learn from: refuse, or note and go on."""
    if source.min_history < 1:
        return
    for user_id, own in by_user(items).items():
        if len(own) < 2:
            reason = f"user {user_id[:40]!r} has one item and so no history; give two or more, or set on_error: skip"
            if not rejects.skip:
                raise DataError(f"{origin}: {reason}")
            rejects.rows.append({"file": origin, "line": 0, "reason": reason})
