"""Which column of a file is the user, the input, the output and the date, and what cannot be told.

    proposal = propose_columns(survey(rows), given={"output": "stars"})
    proposal.fields, proposal.questions

By name first (`tagpr.data.mapping.NAMES`), a name counting only if the column holds what it says; then by content, if
exactly one column fits. Everything else is a `Question` with the flag that settles it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tagpr.data.columns import Column
from tagpr.data.mapping import NAMES, plain_name
from tagpr.data.values import named
from tagpr.errors import DataError

Role = Literal["user_id", "input", "output", "date"]
FLAGS: Mapping[Role, str] = {"user_id": "--user", "input": "--input", "output": "--output", "date": "--date"}
"""What settles which column plays a role."""
_WHAT: Mapping[Role, str] = {
    "user_id": "whose row it is",
    "input": "what the model is shown",
    "output": "what it is to write",
    "date": "when it was",
}


@dataclass(frozen=True)
class Question:
    """Something the file does not say."""

    role: Role
    why: str
    candidates: tuple[str, ...]
    """Columns that could be meant; empty if none could."""

    def __str__(self) -> str:
        """One sentence with the flag that settles it, if one can."""
        if not self.candidates:
            return self.why
        return f"{self.why}; add {FLAGS[self.role]} with one of: {named(self.candidates)}"


@dataclass(frozen=True)
class ColumnProposal:
    """Which column plays which role."""

    fields: Mapping[Role, str] = field(default_factory=dict)
    questions: tuple[Question, ...] = ()
    outputs: tuple[str, ...] = ()
    """Other columns that could be the output."""

    def renamed(self) -> dict[str, str]:
        """The roles whose column has another name, as a recipe's `fields`."""
        return {role: column for role, column in self.fields.items() if role != column}


def propose_columns(columns: Sequence[Column], given: Mapping[Role, str]) -> ColumnProposal:
    """The roles of the columns. given: those that a user has decided. Raises DataError for a name that is no column."""
    _check(columns, given)
    fields: dict[Role, str] = dict(given)
    questions: list[Question] = []

    def free() -> list[Column]:
        return [column for column in columns if column.name not in fields.values() and column.texts]

    def settle(role: Role, found: Column | Question | None) -> None:
        if isinstance(found, Question):
            questions.append(found)
        elif found is not None:
            fields[role] = found.name

    if "date" not in fields:
        settle("date", _date(free()))
    if "user_id" not in fields:
        settle("user_id", _user(free(), columns))
    if "output" not in fields:
        settle("output", _named(free(), "output"))
    if "input" not in fields:
        settle("input", _input(free()))
    if "output" not in fields:
        settle("output", _output(free()))
    ordered: dict[Role, str] = {role: fields[role] for role in FLAGS if role in fields}
    others = [c.name for c in free() if _usable(c) and _listed(c, "output")]
    return ColumnProposal(ordered, tuple(questions), tuple(others))


def _check(columns: Sequence[Column], given: Mapping[Role, str]) -> None:
    """Raise DataError for a column that a user names and cannot be meant."""
    by_name = {column.name: column for column in columns}
    for role, name in given.items():
        if name not in by_name:
            raise DataError(f"{FLAGS[role]} {name}: no such column; there are {named(by_name)}")
        if by_name[name].nested:
            raise DataError(f"{FLAGS[role]} {name}: holds lists, objects or true/false; it must be text or a number")
    if len(set(given.values())) < len(given):
        raise DataError("--user, --input, --output, --date: each names another column; give different ones")


def _listed(column: Column, role: Role) -> bool:
    return plain_name(column.name) in {plain_name(name) for name in NAMES[role]}


def _named(columns: Sequence[Column], role: Role, constant: bool = False) -> Column | None:
    """The column with the likeliest name for a role that holds more than one value, or with `constant` only one."""
    for name in NAMES[role]:
        for column in columns:
            if plain_name(column.name) == plain_name(name) and column.constant == constant:
                return column
    return None


def _usable(column: Column) -> bool:
    """Whether a column can be what is shown or written: it varies, and says something."""
    return not column.constant and not column.keys and not column.dates


def _date(columns: Sequence[Column]) -> Column | Question | None:
    ours = next((column for column in columns if column.name == "date"), None)
    if ours is not None and not ours.dates:  # which a run would read all the same
        wrong = next(text for text in ours.texts if not Column("", (text,)).dates)
        why = f"column 'date' holds {wrong[:40]!r}, which is no date; write 2024-05-31, or rename the column"
        return Question("date", why, tuple(column.name for column in columns if column.written_dates))
    usual = [column for column in columns if column.dates]
    found = _named(usual, "date")
    written = [column for column in columns if column.written_dates]
    return found or (written[0] if len(written) == 1 else None)


def _user(columns: Sequence[Column], every: Sequence[Column]) -> Column | Question:
    repeating = [column for column in columns if column.repeats]
    found = _named(repeating, "user_id") or _named(repeating, "user_id", constant=True)
    if found:
        return found
    alike = [column for column in columns if column.ids]
    if len(alike) == 1:
        return alike[0]
    once = [column for column in columns if _listed(column, "user_id")]
    if once:
        why = f"every row has another {once[0].name!r}, so no user has a history"
    elif lists := [column.name for column in every if column.nested and _listed(column, "user_id")]:
        why = f"no column says whose row it is: {lists[0]!r} holds lists; write one row per user"
    else:
        why = "no column says whose row it is"
    texts = [c for c in repeating if not c.constant and not c.dates and not c.sentences and c.length <= 64]
    return Question("user_id", why, tuple(column.name for column in alike or texts))


def _input(columns: Sequence[Column]) -> Column | Question:
    usable = [column for column in columns if _usable(column)]
    found = _named(usable, "input")
    if found:
        return found
    texts = [column for column in usable if column.sentences] or usable
    if len(texts) == 1:
        return texts[0]
    longest = max(texts, key=lambda column: column.length, default=None)
    if longest is not None and all(c is longest or longest.length > 3 * c.length for c in texts):
        return longest
    return Question("input", f"no column says {_WHAT['input']}", tuple(column.name for column in texts))


def _output(columns: Sequence[Column]) -> Column | Question:
    usable = [column for column in columns if _usable(column)]
    if len(usable) == 1:
        return usable[0]
    why = f"no column says {_WHAT['output']}"
    if not usable:
        why += (
            "; a task needs an input and an output of every row, e.g. a text and the user's own title, label or wording"
        )
    return Question("output", why, tuple(column.name for column in usable))
