"""`tagpr data check PATH`: what a file is, what it holds, and its problems with their lines.

Reads like a run would, with problems collected instead of raised.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tagpr.data.duplicates import drop_duplicates
from tagpr.data.formats.lamp import find_questions
from tagpr.data.formats.protocol import Reader, Source
from tagpr.data.formats.registry import find_reader, guess_reader
from tagpr.data.formats.rows import date_column, rows_of
from tagpr.data.rejects import Reject, Rejects
from tagpr.data.split import Item, by_user
from tagpr.data.statistics import example_statistics, item_statistics
from tagpr.errors import DataError
from tagpr.tasks import Example, Task, load_task


@dataclass(frozen=True)
class Check:
    """What a file is and holds."""

    path: Path
    reader: Reader
    task: str
    counts: dict[str, object]
    rejects: list[Reject] = field(default_factory=list)

    @property
    def format(self) -> str:
        """The reader's name."""
        return self.reader.name

    @property
    def problems(self) -> list[tuple[int, str]]:
        """(line, reason); line 0 means the whole file."""
        return [(reject.line, reject.reason) for reject in self.rejects]

    @property
    def ok(self) -> bool:
        """Nothing wrong."""
        return not self.rejects


TASK_OF_READER = {
    "pgraphrag": "pgraphrag-title",
    "posts": "post-title",
    "personamem-v1": "personamem",
    "personamem-v2": "personamem-v2",
    "personamem-v2-128k": "personamem-v2",
    "prefeval-mcq": "prefeval-mcq",
    "prefeval": "prefeval",
    "lamp-qa": "lamp-qa",
    "longmemeval": "longmemeval",
    "amazon-dpl": "amazon-review",
}
"""The card of a format that belongs to one."""


def guess_task(path: Path, reader: str) -> str:
    """A task card for a file that came without one."""
    if reader in TASK_OF_READER:
        return TASK_OF_READER[reader]
    if reader in ("lamp", "longlamp"):
        first = next((row for _, row in rows_of(path, Rejects(skip=True))), {})
        if reader == "longlamp":
            kinds = {"reviewerId": "longlamp-review", "author": "longlamp-topic"}
            return next((task for key, task in kinds.items() if key in first), "longlamp-abstract")
        text = str(first.get("input", ""))
        signs = {
            "which reference is related": "lamp-1",
            "tag does this movie": "lamp-2",
            "score of the following review": "lamp-3",
            "headline for the following article": "lamp-4",
            "title for the following abstract": "lamp-5",
            "Paraphrase the following tweet": "lamp-7",
        }
        return next((task for sign, task in signs.items() if sign in text), "lamp-5")
    return "generic-text"


def check(path: Path, task_name: str = "", names: Mapping[str, str] | None = None, format: str = "auto") -> Check:
    """Read `path` and report, with the counts of table 5.

    `task_name` decides labels and fields; empty: guessed (or free text).

    Raises DataError if no reader knows the file, RecipeError for a card or reader that is none.
    """
    reader = guess_reader(path) if format == "auto" else find_reader(format, path, Path())
    if path.is_dir():
        path = find_questions(path, "train", "dev", "test")
    task = load_task(task_name or guess_task(path, reader.name))
    shown = task_name or ("post-title" if reader.name == "posts" else "")
    return check_as(path, reader, task, names or {}, shown)


def check_as(path: Path, reader: Reader, task: Task, names: Mapping[str, str], shown: str) -> Check:
    """Read `path` by a reader for a task, and report. shown: what a file of interactions is said to be read as."""
    rejects = Rejects(skip=True)
    try:
        records = reader.read(path, Source(task, rejects, names, history="both"))
    except DataError as error:  # the whole file; what was noted row by row says the same again and again
        return Check(path, reader, shown or "any", {}, [_whole_file(path, str(error))])
    items = [record for record in records if isinstance(record, Item)]
    examples = [record for record in records if isinstance(record, Example)]
    if examples:
        return Check(path, reader, task.name, example_statistics(examples), rejects.rows)
    kept, repeats = drop_duplicates(items)
    counts = item_statistics(kept, repeats, task)
    if kept and not kept[0].date and "date" not in names and (column := date_column(path, task)):
        counts["dates"] = f"{counts['dates']} (a date in another column? --field date={column})"
    single = sum(len(own) < 2 for own in by_user(kept).values())
    if single:
        rejects.note(path, 0, f"{single} users have one item and so no history", record=False)
    return Check(path, reader, task.name if shown else "any text task", counts, rejects.rows)


def _whole_file(path: Path, message: str) -> Reject:
    """A DataError's `PATH: reason` or `PATH:LINE: reason` as one complaint."""
    found = re.match(r":(\d+): ", message.removeprefix(str(path)))
    line = int(found[1]) if found else 0
    return Reject(str(path), line, message.removeprefix(f"{path}:{line}: ").removeprefix(f"{path}: "), "")


def render_check(result: Check, most: int = 20) -> str:
    """The report as text: format, counts, then the first `most` problems with their lines, equal ones in one line."""
    lines = [f"{result.path}: {result.reader.says}; read as task {result.task}"]
    lines += [f"  {name}: {value}" for name, value in result.counts.items()]
    lines.append(f"  problems: {len(result.problems) or 'none'}")
    grouped = list(_grouped(result.problems))
    for line, reason, more in grouped[:most]:
        times = f" ({more} more line{'s' if more > 1 else ''} like it)" if more else ""
        lines.append(f"  {result.path}:{line}: {reason}{times}" if line else f"  {result.path}: {reason}{times}")
    if len(grouped) > most:
        lines.append(f"  ... and {len(grouped) - most} more")
    return "\n".join(lines)


def _grouped(problems: Iterable[tuple[int, str]]) -> Iterable[tuple[int, str, int]]:
    """(first line, reason, how many more lines) by reason, in the order of first lines."""
    lines: dict[str, list[int]] = {}
    for line, reason in problems:
        lines.setdefault(reason, []).append(line)
    return [(at[0], reason, len(at) - 1) for reason, at in lines.items()]
