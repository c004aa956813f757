"""Which of a file's columns is the user, the input, the output and the date: by name, and by what they hold."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from shlex import quote

from tagpr.data.dates import iso_date
from tagpr.data.values import absent, named
from tagpr.tasks import Task

NAMES: Mapping[str, tuple[str, ...]] = {
    "user_id": (
        *("user_id", "user", "userid", "uid", "user_name", "username", "author", "authors", "author_id"),
        *(
            "reviewer_id",
            "reviewer",
            "customer_id",
            "customer",
            "person",
            "who",
            "account",
            "member_id",
            "sender",
            "from",
        ),
    ),
    "input": (
        *("input", "text", "body", "content", "prompt", "question", "review", "review_text", "reviewtext", "message"),
        *("description", "abstract", "article", "post", "comment", "tweet", "source", "short_description"),
    ),
    "output": (
        *("output", "target", "answer", "response", "completion", "label", "rating", "stars", "score", "overall"),
        *("headline", "title", "summary", "tag", "category", "reply", "subject", "class"),
    ),
    "date": (
        *("date", "timestamp", "time", "when", "datetime", "created_at", "created", "created_utc", "published"),
        *("published_at", "review_time", "reviewtime", "unixreviewtime", "sent_at", "day"),
    ),
    "id": ("id", "review_id", "post_id", "tweet_id", "item_id", "message_id"),
}
"""Our field -> names that files give it, the likelier first."""


@dataclass(frozen=True)
class Proposal:
    """Our field -> the file's column, for those that have another name there."""

    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def hint(self) -> str:
        """`; did you mean --field user_id=who ...?`, or "" if no column looks like one."""
        if not self.fields:
            return ""
        return f"; did you mean {' '.join(f'--field {ours}={_shown(theirs)}' for ours, theirs in self.fields.items())}?"


def propose_fields(rows: Sequence[Mapping[str, object]], task: Task, names: Mapping[str, str]) -> Proposal:
    """The columns of the first `rows` that could be the fields which neither the rows nor `names` give."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    known = {"input": task.input_name, "output": task.output_name}
    found: dict[str, str] = {}
    for ours, usual in NAMES.items():
        if ours in names or ours in columns or known.get(ours) in columns:
            continue
        taken = {*names.values(), *found.values(), *NAMES, *known.values()} - {ours}
        free = [
            column for column in columns if column not in taken and any(not absent(row.get(column)) for row in rows)
        ]
        named = [column for name in usual for column in free if plain_name(column) == plain_name(name)]
        if ours == "date":
            named = [column for column in named if _dates(rows, column)]
        elif ours == "input" and not named:
            named = _longest(rows, free)
        elif ours == "output" and len(free) == 1:
            named = free
        if named:
            found[ours] = named[0]
    return Proposal(found)


def _shown(name: str) -> str:
    """A column's name as a shell takes it, spaces around it included."""
    return quote(name) if name.isprintable() and len(name) <= 40 else named([name])


def plain_name(name: str) -> str:
    """A column's name without case, spaces and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _dates(rows: Sequence[Mapping[str, object]], column: str) -> bool:
    """Whether everything in a column reads as a date."""
    try:
        return bool([iso_date(row[column]) for row in rows if not absent(row.get(column))])
    except (ValueError, OverflowError, OSError):
        return False


def _longest(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> list[str]:
    """The text column with the longest texts, if its texts are sentences rather than words."""
    sizes = {c: sum(len(v) for row in rows if isinstance(v := row.get(c), str)) / max(1, len(rows)) for c in columns}
    best = max(sizes, key=lambda column: sizes[column], default="")
    return [best] if best and sizes[best] >= 20 else []
