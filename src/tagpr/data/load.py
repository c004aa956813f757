"""Entry point of tagpr.data: every source of a recipe, read, freed of duplicates, split and counted."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import TypeGuard

from tagpr.data.corrections import with_corrections
from tagpr.data.duplicates import without_leaks
from tagpr.data.formats.hub import on_hub
from tagpr.data.formats.lamp import find_questions
from tagpr.data.formats.protocol import Records, Source
from tagpr.data.formats.registry import find_reader
from tagpr.data.formats.rows import date_column
from tagpr.data.ids import folded, look_alikes
from tagpr.data.missing import MissingCount
from tagpr.data.rejects import Rejects
from tagpr.data.report import SplitReport, Unused
from tagpr.data.settings import DataSettings, SourceSettings
from tagpr.data.split import (
    HowToSplit,
    Item,
    Splits,
    UnusedCount,
    choose_some,
    need_examples,
    split_examples,
    split_users,
)
from tagpr.data.users import group_users
from tagpr.errors import DataError, RecipeError
from tagpr.on_disk import Spool
from tagpr.sorting import Sorter
from tagpr.tasks import Example, Kind, Task, load_task
from tagpr.tasks.metrics import need_own_names
from tagpr.tasks.scripts import with_rouge_tokens

logger = logging.getLogger(__name__)
FIXED_NAMES = ("bundled", "lamp", "longlamp", "pgraphrag")
"""Formats whose fields are their publishers', so that a recipe's `fields` would change nothing."""

HELDOUT_SHARE = 0.1  # of the users, if records bring their profiles and no held-out file is named


def load_splits(settings: DataSettings, seed: int, folder: Path) -> dict[str, Splits]:
    """Train and held-out examples of every source, by task name, in the recipe's order.

    `folder` is the start of the recipe's relative paths. Records skipped under `on_error: skip` are in `rejects`, their
    number in `report`. Raises DataError (one line, file and line named) and RecipeError (a task card or setting).
    """
    splits: dict[str, Splits] = {}
    for source in placed(settings):
        one = load_source(source, seed, folder, Rejects(skip=settings.on_error == "skip"))
        if one.task.name in splits:
            raise RecipeError(f"data.sources: duplicate task {one.task.name}; give one source per task")
        splits[one.task.name] = one
    need_own_names(split.task for split in splits.values())
    found = {name: _without_shared(one, list(splits.values())) for name, one in splits.items()}
    return found if settings.corrections is None else with_corrections(found, settings.corrections)


def _without_shared(one: Splits, all_: Sequence[Splits]) -> Splits:
    """A source without the held-out answers of the others: one file, or two that overlap, can stand under two names.

    Only sources of like questions are compared; the tasks of a user that ask for other fields are not the same.
    """
    names = (one.task.input_name, one.task.output_name)
    like = [other for other in all_ if other is not one and (other.task.input_name, other.task.output_name) == names]
    others = [example for other in like for example in other.heldout]
    if not others:
        return one
    train, heldout, leaks = without_leaks(one.task, one.train, one.heldout, others)
    if not leaks:
        return one
    logger.warning(
        "data: %s: %d training examples and %d history items left out: another source holds out their answers",
        *(one.task.name, leaks.examples, leaks.history),
    )
    if one.train:
        need_examples(one.task, train, "training", one.task.name, "another source holds out the rest")
    report = replace(one.report, leaks_across=leaks, train_used=len(train))
    return replace(one, train=train, heldout=heldout, report=report)


def placed(settings: DataSettings) -> tuple[SourceSettings, ...]:
    """The sources with their paths below `settings.folder`, if there is one; hub datasets stay."""
    if settings.folder is None:
        return settings.sources
    folder = settings.folder.expanduser()
    sources = []
    for source in settings.sources:
        paths = {"path": source.path, "heldout_path": source.heldout_path}
        below = {key: str((folder / path).absolute()) for key, path in paths.items() if path and not on_hub(path)}
        sources.append(source.model_copy(update=below))
    return tuple(sources)


def card_of(source: SourceSettings, folder: Path) -> Path | str:
    """The task card a source names: a bundled card's name, or a path."""
    return folder / source.task if source.task.endswith((".yaml", ".yml")) else source.task


@dataclass(frozen=True)
class _Halves:
    """What a source became."""

    train: Sequence[Example]
    heldout: Sequence[Example]
    report: SplitReport
    why: str = ""  # what gave no example


def load_source(source: SourceSettings, seed: int, folder: Path, rejects: Rejects) -> Splits:
    """One source of a recipe."""
    task = load_task(card_of(source, folder))
    if source.name:
        task = task.model_copy(update={"name": source.name})
    origin = source.path or "bundled Debian sample"
    path = _path(source.path, folder) if source.path else None
    reader = find_reader(source.format, path, folder)
    if source.fields and reader.name in FIXED_NAMES:
        raise RecipeError(
            f"data.sources: {origin}: fields does nothing here, {reader.says} have names of their own; leave it out"
        )
    told = Source(task, rejects, source.fields, source.history, source.max_history)

    def read(path: Path | None, split: str) -> Records:
        return reader.read(Path() if path is None else path if on_hub(path) else find_questions(path, split), told)

    records, split = read(path, "train"), _Split(task, source, seed, origin, rejects)
    if _are_items(records):
        if source.heldout_path:
            raise RecipeError(
                f"data.sources: {origin}: heldout_path is for files whose records bring their history; "
                "of single interactions each user's last are held out"
            )
        halves = split.items(records, path, lone_users=reader.name != "bundled")
    else:
        dev = read(_path(source.heldout_path, folder), "dev") if source.heldout_path else None
        halves = split.examples(_examples(records), None if dev is None else _examples(dev))
    train = [] if source.zero_shot else halves.train
    why = "; ".join(filter(None, (rejects.summary, halves.why)))
    if not source.zero_shot:
        need_examples(task, train, "training", origin, why)
    need_examples(task, halves.heldout, "held-out", origin, why)
    targets = (example.target for example in chain(train, halves.heldout))
    task = with_rouge_tokens(task, filter(None, targets))
    used = choose_some(train, source.max_train, seed), choose_some(halves.heldout, source.max_heldout, seed)
    report = replace(
        halves.report,
        origin=origin,
        reader=reader.name,
        rouge_tokens=str(task.rouge_tokens) if task.kind is Kind.TEXT else None,
        train=len(train),
        heldout=len(halves.heldout),
        rejected=len(rejects.rows),
        train_used=len(used[0]),
        heldout_used=len(used[1]),
    )
    return Splits(task, *used, report, rejects.rows)


def _path(text: str, folder: Path) -> Path:
    return Path(text) if on_hub(text) else folder / text


def _are_items(records: Records) -> TypeGuard[Sequence[Item]]:
    return not records or isinstance(records[0], Item)


def _examples(records: Records) -> list[Example]:
    return [record for record in records if isinstance(record, Example)]


@dataclass(frozen=True)
class _Split:
    """How one source is split: what its records have in common."""

    task: Task
    source: SourceSettings
    seed: int
    origin: str
    rejects: Rejects

    def items(self, items: Sequence[Item], path: Path | None, *, lone_users: bool) -> _Halves:
        """Single interactions, split per user."""
        task, source, origin, rejects = self.task, self.source, self.origin, self.rejects
        users = group_users(items)
        if users.first_repeat is not None:
            first = users.first_repeat
            logger.warning(
                "data: %s: %d exact duplicates left out (the first: line %d repeats line %d)",
                *(origin, users.repeats, first.item.line, first.first.line),
            )
        how = HowToSplit(self.seed, users.dated, source.heldout_per_user, source.min_history, source.max_history)
        train, heldout, nothing = Spool[Example](), Spool[Example](), UnusedCount(users.dated, source.min_history)
        names, words = Sorter[tuple[int, int]](), MissingCount(task)
        split = split_users(task, users.groups, how, users.works)
        for place, (own, (to_train, held)) in enumerate(zip(users.groups, split, strict=True)):
            if lone_users:
                _need_history(own, origin, source, rejects)
            for part, examples in ((train, to_train), (heldout, held)):
                for example in examples:
                    part.add(example)
            nothing.add(own, {example.id for example in (*to_train, *held)})
            words.add(own)
            names.add((hash(folded(own[0].user_id)), place))
        alike = _look_alikes(users.groups, names)
        if alike:
            logger.warning(
                "data: %s: %d users differ from another only by spaces, case or accents (%r and %r); each counts by "
                "itself",
                *(origin, len(alike), *alike[0]),
            )
        if words.first is not None:
            logger.warning(
                "data: %s: %d fields read like a missing value, and are taken as text (line %d: %s is %r); leave such "
                "fields empty, or the lines out",
                *(origin, words.count, words.first.line, words.first.field, words.first.value),
            )
        undated = "date" not in source.fields and bool(users.groups) and not items[0].date
        if path is not None and undated and (column := date_column(path, task)):
            logger.warning(
                "data: %s: read without dates, so held-out items are a random choice; if column %r is the date, "
                "set fields: {date: %s}",
                *(origin, column, column),
            )
        unused = nothing.result()
        if unused.users:
            logger.warning("data: %s: %s", origin, unused)
        report = SplitReport(
            users=len(users.groups),
            records=len(items) + rejects.records,
            split="time" if users.dated else "random",
            no_example=unused,
            items=users.items,
            duplicates=users.repeats,
            users_alike=len(alike) or None,
            missing_words=words.count or None,
        )
        return _Halves(train.rows(), heldout.rows(), report, str(unused))

    def examples(self, train: list[Example], heldout: list[Example] | None) -> _Halves:
        """Records that bring their profiles: an official held-out file, or whole users held out."""
        task, source = self.task, self.source
        records = len(train) + len(heldout or ()) + self.rejects.records
        if heldout is None:
            train, heldout = ([], train) if source.zero_shot else split_examples(train, HELDOUT_SHARE, self.seed)
        for name, examples in ((source.path, train), (source.heldout_path or source.path, heldout)):
            withheld = sum(example.target is None for example in examples)
            if withheld:
                raise DataError(
                    f"{name}: {withheld} records have no answer (a test split?); put the outputs file beside it"
                )
        users = len({example.user_id for example in train + heldout})
        train, heldout, leaks = without_leaks(task, train, heldout)
        if leaks:
            logger.warning(
                "data: %s: %d training examples and %d history items left out: they hold the answer to a held-out "
                "question",
                *(source.path, leaks.examples, leaks.history),
            )
        short = [len(example.profile) < source.min_history for example in train + heldout]
        how = "official" if source.heldout_path else "all held out" if source.zero_shot else "users"
        why = {f"fewer than {source.min_history} items in the profile": sum(short)} if any(short) else {}
        report = SplitReport(users=users, records=records, split=how, no_example=Unused(items=why), leaks=leaks)
        return _Halves(
            [example for example in train if len(example.profile) >= source.min_history],
            [example for example in heldout if len(example.profile) >= source.min_history],
            report,
            "; ".join(f"{count} records gave none: {reason}" for reason, count in why.items()),
        )


def _need_history(own: Sequence[Item], origin: str, source: SourceSettings, rejects: Rejects) -> None:
    """A user with a single item has no history to learn from: refuse, or note and go on."""
    if source.min_history < 1 or len(own) > 1:
        return
    reason = (
        f"user {own[0].user_id[:40]!r} has one item and so no history; give two or more, or set data.on_error: skip"
    )
    if not rejects.skip:
        raise DataError(f"{origin}: {reason}")
    rejects.note(origin, 0, reason, own[0].input, record=False)


def _look_alikes(groups: Sequence[Sequence[Item]], names: Iterable[tuple[int, int]]) -> list[tuple[str, str]]:
    """`look_alikes` of the users; names: the hash of each one's folded id and its place, sorted, so that hardly any id
    is looked at.
    """
    places = {place for one, other in pairwise(names) if one[0] == other[0] for place in (one[1], other[1])}
    return look_alikes(groups[place][0].user_id for place in sorted(places))
