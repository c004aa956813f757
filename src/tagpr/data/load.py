"""`load_splits`: every source of a recipe, read, split and counted. The door of this room."""

from pathlib import Path

from tagpr.data.formats.hub import on_hub
from tagpr.data.formats.jsonl import Rejects, items_of_rows, json_lines
from tagpr.data.formats.lamp import find_questions, lamp_examples
from tagpr.data.formats.pgraphrag import pgraphrag_examples
from tagpr.data.formats.tables import csv_rows, parquet_rows
from tagpr.data.settings import DataSettings, SourceSettings
from tagpr.data.split import Item, Splits, by_user, choose_some, need_examples, split_examples, split_items
from tagpr.errors import DataError, RecipeError
from tagpr.tasks import Example, Kind, Task, load_task
from tagpr.tasks.scripts import with_rouge_tokens

HELDOUT_SHARE = 0.1  # of the users, where records bring their profiles and no held-out file is named


def load_splits(settings: DataSettings, seed: int, folder: Path) -> dict[str, Splits]:
    """Train and held-out examples of every source, by task name, in the recipe's order.

    `folder` is where relative paths of the recipe start. Lines skipped under `on_error: skip` are in `rejects`, their
    number in `report`. Raises DataError (one line, file and line named) and RecipeError (a task card or setting).
    """
    splits: dict[str, Splits] = {}
    for source in settings.sources:
        source = _below(source, Path(settings.folder).expanduser()) if settings.folder else source
        one = load_source(source, seed, folder, Rejects(skip=settings.on_error == "skip"))
        if one.task.name in splits:
            raise RecipeError(f"data.sources: task {one.task.name} stands twice; give one source a task")
        splits[one.task.name] = one
    return splits


def _below(source: SourceSettings, folder: Path) -> SourceSettings:
    """The source with its paths below `folder`, but for hub datasets."""
    paths = {key: getattr(source, key) for key in ("path", "heldout_path")}
    below = {key: str((folder / path).absolute()) for key, path in paths.items() if path and not on_hub(path)}
    return source.model_copy(update=below)


def load_source(source: SourceSettings, seed: int, folder: Path, rejects: Rejects) -> Splits:
    """One source of a recipe."""
    task = load_task(source.task if not source.task.endswith((".yaml", ".yml")) else folder / source.task)
    if source.name:
        task = task.model_copy(update={"name": source.name})
    origin = source.path or "bundled Debian sample"
    reader = source.reader if source.reader != "auto" else guess_reader(source.path, folder)
    report: dict[str, object] = {"origin": origin, "reader": reader}
    if reader in ("lamp", "longlamp", "pgraphrag"):
        train, heldout = _ready_examples(source, reader, task, seed, folder, rejects)
        users = {example.user_id for example in train + heldout}
        report |= {
            "users": len(users),
            "split": "official" if source.heldout_path else "all held out" if source.zero_shot else "users",
        }
    else:
        items = read_items(source, reader, task, folder, rejects)
        if reader != "bundled":
            _need_history(items, origin, source, rejects)
        train, heldout, how = split_items(
            task,
            items,
            seed=seed,
            heldout_per_user=source.heldout_per_user,
            min_history=source.min_history,
            max_history=source.max_history,
        )
        report |= {"users": len(by_user(items)), "items": len(items), "split": how}
    if source.zero_shot:
        train = []
    else:
        need_examples(task, train, "training", origin)
    need_examples(task, heldout, "held-out", origin)
    task = with_rouge_tokens(task, [example.target for example in train + heldout if example.target])
    if task.kind is Kind.TEXT:
        report["rouge_tokens"] = str(task.rouge_tokens)
    report |= {"train": len(train), "heldout": len(heldout), "rejected": len(rejects.rows)}
    train = choose_some(train, source.max_train, seed)
    heldout = choose_some(heldout, source.max_heldout, seed)
    report |= {"train_used": len(train), "heldout_used": len(heldout)}
    return Splits(task, train, heldout, report, rejects.rows)


def guess_reader(path: str, folder: Path) -> str:
    """The reader for a path: by its ending, and for .json by what its first record looks like."""
    if not path:
        return "bundled"
    from tagpr.data.check import guess_format

    return guess_format(Path(path) if on_hub(path) else folder / path)


def read_items(source: SourceSettings, reader: str, task: Task, folder: Path, rejects: Rejects) -> list[Item]:
    """Items of a source whose rows are single interactions."""
    path = folder / source.path
    if reader == "bundled":
        from tagpr.data.bundled import bundled_items

        return bundled_items(source.task)
    if reader == "csv":
        return items_of_rows(csv_rows(path, rejects), path, task, source.fields, rejects)
    if reader == "parquet":
        return items_of_rows(parquet_rows(path), path, task, source.fields, rejects)
    return items_of_rows(json_lines(path, rejects), path, task, source.fields, rejects)


def _ready_examples(
    source: SourceSettings, reader: str, task: Task, seed: int, folder: Path, rejects: Rejects
) -> tuple[list[Example], list[Example]]:
    """Train and held-out examples of files whose records bring their profiles along."""

    def read(text: str, split: str) -> list[Example]:
        path = Path(text) if on_hub(text) else find_questions(folder / text, split)
        if reader == "pgraphrag":
            return pgraphrag_examples(path, task, rejects, source.history)
        return lamp_examples(path, task, rejects, source.max_history)

    train = read(source.path, "train")
    if source.heldout_path:
        heldout = read(source.heldout_path, "dev")
    elif source.zero_shot:
        train, heldout = [], train
    else:
        train, heldout = split_examples(train, HELDOUT_SHARE, seed)
    for name, examples in ((source.path, train), (source.heldout_path or source.path, heldout)):
        withheld = sum(example.target is None for example in examples)
        if withheld:
            raise DataError(
                f"{name}: {withheld} records have no answer (a test split?); put the outputs file beside it"
            )
    return (
        [example for example in train if len(example.profile) >= source.min_history],
        [example for example in heldout if len(example.profile) >= source.min_history],
    )


def _need_history(items: list[Item], origin: str, source: SourceSettings, rejects: Rejects) -> None:
    """A user with a single item has no history to learn from: refuse, or note and go on."""
    if source.min_history < 1:
        return
    for user_id, own in by_user(items).items():
        if len(own) < 2:
            reason = (
                f"user {user_id[:40]!r} has one item and so no history; give two or more, or set data.on_error: skip"
            )
            if not rejects.skip:
                raise DataError(f"{origin}: {reason}")
            rejects.note(origin, 0, reason, own[0].input)
