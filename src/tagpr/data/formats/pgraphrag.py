"""PGraphRAG's `data_splits/{amazon,b2w,gap,hotel}_{train,dev,test}.json`.

A record is `{"id", "profile": [{"rating", "title", "text", "pid"}]}`. The first item of a profile is the question's own
and gives the gold; the rest is the user's history. Neighbours are other users' reviews of the same product (`pid`),
marked by an interaction id that starts with `neighbour:`. In gap and hotel the ids are nicknames, so distinct users
can share one: a repeated id gets its line number appended. A few real reviews have no text:
they stay, as `(no text)`, unless the text is the gold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tagpr.data.formats.profiles import history_item, profile_of, record_id
from tagpr.data.formats.protocol import Source
from tagpr.data.formats.rows import Container, peek, rows_of
from tagpr.data.rejects import Rejects
from tagpr.data.settings import History
from tagpr.data.values import text_of
from tagpr.tasks import Example, Interaction, Task

NEEDED = ("rating", "title", "text", "pid")


@dataclass(frozen=True)
class PGraphRAGReader:
    """Reader of one split file."""

    name: str = "pgraphrag"
    says: str = "PGraphRAG split (id, profile of reviews)"

    def guess(self, path: Path) -> float:
        """By the product id of the first review, or a folder of split files."""
        found = peek(path)
        if found.container is Container.FOLDER:
            return 0.6 if list(path.glob("*_dev.json*")) and not list(path.glob("*questions.json*")) else 0.0
        profile = found.first.get("profile") if found.first else None
        entry = profile[0] if isinstance(profile, list) and profile else None
        return 0.9 if isinstance(entry, dict) and "pid" in entry and "input" not in (found.first or {}) else 0.0

    def read(self, path: Path, source: Source) -> list[Example]:
        """One example per record."""
        return pgraphrag_examples(path, source.task, source.rejects, source.history)


def pgraphrag_examples(path: Path, task: Task, rejects: Rejects, history: History = "own") -> list[Example]:
    """Examples of one split file; a user without own history has an empty profile under `own`."""
    records: list[tuple[int, str, list[Mapping[str, object]], list[Interaction]]] = []
    seen: set[str] = set()
    for line, record in rows_of(path, rejects):
        try:
            name = record_id(record, "id")
            entries = profile_of(record, NEEDED)
            if not entries:
                raise ValueError("field 'profile' is empty; its first item is the question")
            items = [history_item(entry, i, "", None) for i, entry in enumerate(entries)]
            text_of(entries[0]["pid"])
        except (ValueError, TypeError) as error:
            rejects.add(path, line, str(error), record)
            continue
        while name in seen:
            name = f"{name}#{line}"
        seen.add(name)
        records.append((line, name, entries, items))
    by_product: dict[str, list[tuple[str, Interaction]]] = {}
    for _, name, entries, items in records:
        for entry, item in zip(entries, items, strict=True):
            by_product.setdefault(str(entry["pid"]), []).append((name, item))
    examples: list[Example] = []
    for line, name, entries, items in records:
        asked = dict(items[0].fields)
        target = asked.pop(task.output_name).strip()
        wanted = {key: asked[key] if asked[key].strip() else "(no text)" for key in ("title", "text") if key in asked}
        text = "\n".join(wanted.values())
        if not target or (task.labels and target not in task.labels):
            # The published files hold a few; they are left out and counted, not an error of the user's.
            reason = f"profile item 0: {task.output_name} {target[:40]!r} is empty or no label; left out"
            rejects.note(path, line, reason, entries[0])
            continue
        profile: list[Interaction] = []
        if history in ("neighbours", "both"):
            others = [(who, item) for who, item in by_product[str(entries[0]["pid"])] if who != name]
            profile += [Interaction(f"neighbour:{who}:{item.id}", item.fields) for who, item in others]
        if history in ("own", "both"):
            profile += items[1:]
        examples.append(Example(name, name, task.name, text, target, tuple(profile), fields=wanted))
    return examples
