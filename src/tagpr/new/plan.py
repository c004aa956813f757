"""`plan_recipe`: a file read, and the task that it makes, or what cannot be told from it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tagpr.data.check import Check, check_as, guess_task
from tagpr.data.columns import LOOKED_AT, Column, survey
from tagpr.data.formats.lamp import find_questions
from tagpr.data.formats.registry import guess_reader
from tagpr.data.formats.rows import Container, container_of, rows_of
from tagpr.data.proposal import FLAGS, ColumnProposal, Question, Role, propose_columns
from tagpr.data.rejects import Rejects
from tagpr.data.values import absent, named, text_of
from tagpr.errors import DataError
from tagpr.new.card import card_text
from tagpr.new.kinds import OutputKind, kind_of
from tagpr.tasks import Kind, Task, load_task
from tagpr.tasks.cards import parse_card
from tagpr.tasks.scripts import tokens_for

_TABLES = ("jsonl", "json", "csv", "parquet", "posts")
"""Readers of single interactions, whose columns may have any name."""


@dataclass(frozen=True)
class Plan:
    """A file with everything decided."""

    path: Path
    name: str
    task: Task
    card: str
    """The text of the card to write; empty if a bundled one fits."""
    columns: Mapping[Role, str]
    """The file's column of each role; empty for a known format, whose names are fixed."""
    fields: Mapping[str, str]
    """The recipe's `fields`: those of other names than ours."""
    outputs: tuple[str, ...]
    """Other columns that could be the output."""
    rouge_tokens: str
    """How ROUGE cuts the outputs; empty if they are no text."""
    prompt_tokens: int
    """A prompt's budget in which the history fits, estimated from the lengths."""
    found: Check
    """What a run will read, and what it will leave out."""


class UndecidedError(DataError):
    """The file does not say everything that a recipe must."""

    def __init__(self, path: Path, questions: tuple[Question, ...], fields: Mapping[Role, str]) -> None:
        self.questions = questions
        known = ", ".join(f"{FLAGS[role]} {column}" for role, column in fields.items())
        super().__init__(f"{path}: {'; '.join(map(str, questions))}" + (f" (found so far: {known})" if known else ""))


def plan_recipe(path: Path, given: Mapping[Role, str], name: str) -> Plan:
    """Read a file and decide what it is. given: columns that the user has named.

    Raises UndecidedError for what the file does not say, DataError for a file that gives no example.
    """
    reader = guess_reader(path)
    if reader.name not in _TABLES:
        if given:
            raise DataError(f"{path}: is {reader.says}, whose names are known; leave {FLAGS[next(iter(given))]} out")
        place = find_questions(path, "train", "dev", "test")
        task = load_task(guess_task(place, reader.name))
        return _checked(Plan(path, name, task, "", {}, {}, (), "", 1000, check_as(place, reader, task, {}, task.name)))
    columns = _columns(path)
    proposal = propose_columns(columns, given)
    if proposal.questions:
        raise UndecidedError(path, proposal.questions, proposal.fields)
    output, shown = proposal.fields["output"], proposal.fields["input"]
    outputs = _counted(path, output)
    try:
        kind = kind_of(outputs)
    except DataError as error:
        question = Question("output", f"{output!r}: {error}", proposal.outputs)
        raise UndecidedError(path, (question,), proposal.fields) from None
    card = "" if kind.kind is Kind.TEXT else card_text(name, kind, shown, output)
    task = parse_card(card, name) if card else load_task("generic-text")
    fields = proposal.renamed()
    return _checked(
        Plan(
            path=path,
            name=name,
            task=task,
            card=card,
            columns=proposal.fields,
            fields=fields,
            outputs=proposal.outputs,
            rouge_tokens=str(tokens_for(outputs)) if kind.kind is Kind.TEXT else "",
            prompt_tokens=_budget(columns, proposal, kind),
            found=check_as(path, reader, task, fields, name),
        )
    )


def _checked(plan: Plan) -> Plan:
    """The plan, if a run would find examples. Raises DataError."""
    if str(plan.found.counts.get("examples", "")).startswith("0 to train"):
        raise DataError(
            f"{plan.path}: gives no training example; a user's latest item is held out, so one needs three or more"
        )
    if plan.found.counts:
        return plan
    _, reason = plan.found.problems[0] if plan.found.problems else (0, "holds no record")
    raise DataError(f"{plan.path}: {reason}")


def _columns(path: Path) -> list[Column]:
    rejects = Rejects(skip=True)
    rows = [row for _, row in islice(rows_of(path, rejects), LOOKED_AT)]
    if not rows:
        reason = f"line {rejects.rows[0].line}: {rejects.rows[0].reason}" if rejects.rows else "holds no record"
        raise DataError(f"{path}: {reason}")
    columns = survey(rows)
    if container_of(path) is Container.CSV and any(
        column.name.isdigit() and len(column.name) > 3 for column in columns
    ):
        raise DataError(
            f"{path}:1: looks like data, not like names of columns ({named(c.name for c in columns)}); "
            "put a line with the columns' names first"
        )
    return columns


def _counted(path: Path, column: str) -> Counter[str]:
    """How often each output stands in the whole file."""
    found = Counter[str]()
    for _, row in rows_of(path, Rejects(skip=True)):
        value = row.get(column)
        if not absent(value) and not isinstance(value, bool | list | dict | bytes):
            try:
                found[text_of(value).strip()] += 1
            except (TypeError, ValueError):
                continue  # the check says so, with its line
    return found


def _budget(columns: list[Column], proposal: ColumnProposal, kind: OutputKind) -> int:
    """Tokens for the question, the instruction and six items of the history, at four characters each, in hundreds."""
    length = {column.name: column.length for column in columns}
    shown, written = length[proposal.fields["input"]], length[proposal.fields["output"]]
    item = min(shown, 200) + written  # a card shows 25 words or 40 of an item's input
    tokens = (shown + 6 * item + 400) / 4 + sum(len(label) / 3 + 1 for label in kind.labels)
    return min(1500, max(300, 100 * round(tokens / 100 + 0.5)))
