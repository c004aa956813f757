"""`tagpr data check PATH`: what a file is, what it holds, and every problem with its line.

Reads like a run would, with problems collected instead of raised. Under `--on-error skip` it writes what a run would
leave out to `NAME.rejects.jsonl` in the working directory; else it never writes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tagpr.data.formats.hub import on_hub
from tagpr.data.formats.json_arrays import json_records
from tagpr.data.formats.jsonl import Rejects, json_lines
from tagpr.data.formats.lamp import USER_KEYS, lamp_examples, lamp_records
from tagpr.data.formats.pgraphrag import pgraphrag_examples
from tagpr.data.formats.tables import csv_rows, parquet_rows
from tagpr.errors import DataError
from tagpr.tasks import Example, Task, load_task

NAMES = {
    "bundled": "the bundled sample",
    "jsonl": "JSONL, one interaction a line",
    "csv": "CSV, one interaction a line",
    "parquet": "Parquet, one interaction a row",
    "lamp": "LaMP questions (official format)",
    "longlamp": "LongLaMP records (input, output, profile)",
    "pgraphrag": "PGraphRAG split (id, profile of reviews)",
    "posts": "posts, one a line (title, content)",
}


@dataclass(frozen=True)
class Check:
    """What a file is and holds. `problems` are (line, reason); line 0 means the whole file."""

    path: Path
    format: str
    task: str
    counts: dict[str, Any]
    problems: list[tuple[int, str]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)  # the same with file and excerpt

    @property
    def ok(self) -> bool:
        """Nothing wrong."""
        return not self.problems


def guess_format(path: Path) -> str:
    """One of the readers' names, by the file's ending and first record. Raises DataError where nothing fits."""
    if on_hub(path):
        return "longlamp"
    if path.is_dir():
        return "pgraphrag" if list(path.glob("*_dev.json")) and not list(path.glob("*questions.json")) else "lamp"
    ending = path.suffix.lower()
    if ending in (".csv", ".tsv", ".dat"):
        return "csv"
    if not path.is_file():
        raise DataError(f"{path}: no such file; check the path")
    rows: Iterator[tuple[int, Mapping[str, Any]]]
    if ending == ".parquet":
        rows = parquet_rows(path)
    else:
        rows = json_records(path, Rejects(skip=True)) if ending == ".json" else json_lines(path, Rejects(skip=True))
    first = next((row for _, row in rows), None)
    if first is None:
        raise DataError(f"{path}: no readable record; it must be JSON objects, CSV or Parquet (see docs/data.md)")
    profile = first.get("profile")
    if isinstance(profile, list):
        entry = profile[0] if profile and isinstance(profile[0], dict) else {}
        if "pid" in entry and "input" not in first:
            return "pgraphrag"
        return "longlamp" if "output" in first or any(key in first for key in USER_KEYS[1:]) else "lamp"
    if ending == ".parquet":
        return "parquet"
    return "posts" if "content" in first and "input" not in first else "jsonl"


def guess_task(path: Path, reader: str) -> str:
    """A task card for a file that came without one."""
    if reader == "pgraphrag":
        return "pgraphrag-title"
    if reader == "posts":
        return "post-title"
    if reader in ("lamp", "longlamp"):
        first: Mapping[str, Any]
        first = next(row for _, row in lamp_records(path, Rejects(skip=True)))
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
    return "package-synopsis"


def check(path: Path, task_name: str = "", names: Mapping[str, str] | None = None) -> Check:
    """Read `path` and report. `task_name` decides labels and fields; empty: guessed (or free text)."""
    from tagpr.data.formats.jsonl import items_of_rows
    from tagpr.data.formats.lamp import find_questions

    reader = guess_format(path)
    if path.is_dir():
        path = find_questions(path, "train", "dev", "test")
    task = load_task(task_name or guess_task(path, reader))
    rejects = Rejects(skip=True)
    shown = task.name if task_name or reader not in ("jsonl", "csv", "parquet") else "any text task"
    if reader in ("lamp", "longlamp", "pgraphrag"):
        examples = _examples(path, reader, task, rejects)
        counts = _example_counts(examples)
    else:
        rows = {"csv": lambda: csv_rows(path, rejects), "parquet": lambda: parquet_rows(path)}.get(
            reader, lambda: json_lines(path, rejects)
        )()
        items = items_of_rows(rows, path, task, names or {}, rejects)
        sizes: dict[str, int] = {}
        for item in items:
            sizes[item.user_id] = sizes.get(item.user_id, 0) + 1
        dates = sorted(item.date for item in items if item.date)
        counts = {"users": len(sizes), "items": len(items), **_spread("items a user", list(sizes.values()))}
        counts |= _dates(dates)
        single = sum(size < 2 for size in sizes.values())
        if single:
            rejects.note(path, 0, f"{single} users have one item and so no history")
    problems = [(int(row["line"]), str(row["reason"])) for row in rejects.rows]
    return Check(path, reader, shown, counts, problems, rejects.rows)


def _examples(path: Path, reader: str, task: Task, rejects: Rejects) -> list[Example]:
    if reader == "pgraphrag":
        return pgraphrag_examples(path, task, rejects, "both")
    return lamp_examples(path, task, rejects)


def _example_counts(examples: list[Example]) -> dict[str, Any]:
    own = [sum(not item.id.startswith("neighbour:") for item in example.profile) for example in examples]
    counts: dict[str, Any] = {
        "users": len({example.user_id for example in examples}),
        "examples": len(examples),
        "with an answer": sum(example.target is not None for example in examples),
        "with own history": sum(size > 0 for size in own),
        **_spread("history", own),
    }
    neighbours = sum(len(example.profile) for example in examples) - sum(own)
    if neighbours:
        counts["neighbours' items"] = neighbours
    return counts | _dates(sorted(item.date for example in examples for item in example.profile if item.date))


def _spread(name: str, sizes: list[int]) -> dict[str, str]:
    return {name: f"{min(sizes)} to {max(sizes)}, median {median(sizes):g}"} if sizes else {}


def _dates(dates: list[str]) -> dict[str, Any]:
    if not dates:
        return {"dates": "none: held-out items will be a seeded random choice"}
    from datetime import UTC, datetime

    today = datetime.now(UTC).isoformat(timespec="seconds")[:19]
    late = sum(date > today for date in dates)
    report = {"dates": f"{dates[0]} to {dates[-1]}"}
    return report | ({"dates in the future": late} if late else {})


def render_check(result: Check, most: int = 20) -> str:
    """The report as text: format, counts, then the first `most` problems with their lines."""
    lines = [f"{result.path}: {NAMES[result.format]}; read as task {result.task}"]
    lines += [f"  {name}: {value}" for name, value in result.counts.items()]
    lines.append(f"  problems: {len(result.problems) or 'none'}")
    for line, reason in result.problems[:most]:
        lines.append(f"  {result.path}:{line}: {reason}" if line else f"  {result.path}: {reason}")
    if len(result.problems) > most:
        lines.append(f"  ... and {len(result.problems) - most} more")
    return "\n".join(lines)


def print_check(path: Path, task: str, fields: list[str], *, skip: bool = False, as_json: bool = False) -> bool:
    """`tagpr data check`: print the report of `path` to standard output; True where a run would go on."""
    import json

    from rich.console import Console

    from tagpr.files import write_jsonl

    names = dict(pair.split("=", 1) for pair in fields if "=" in pair)
    if len(names) != len(fields):
        raise DataError("--field: write OURS=THEIRS, e.g. --field input=text")
    result = check(path, task, names)
    written = Path(f"{path.stem}.rejects.jsonl")
    if skip and result.rejects:
        write_jsonl(written, result.rejects)
    if as_json:
        rows = {"path": str(path), "format": result.format, "task": result.task, "counts": result.counts}
        text = json.dumps({**rows, "problems": result.problems}, ensure_ascii=False)
    else:
        text = render_check(result)
        if skip and result.rejects:
            text += f"\n  left out: {len(result.rejects)}, with reasons in {written}"
    Console(soft_wrap=True, highlight=False, markup=False).print(text)
    return result.ok or skip
