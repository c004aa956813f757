"""Benchmarks over a user's chat history: what they share, and PrefEval's MCQ.

Every message of a chat becomes part of the history: a user's turn with the assistant's reply is one interaction, a
system message one of its own. A choice's fields hold the options, so that baselines can read them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tagpr.data.formats.profiles import record_text
from tagpr.data.formats.protocol import Source
from tagpr.data.formats.rows import peek, rows_of
from tagpr.data.ids import example_id
from tagpr.data.values import plain_text
from tagpr.tasks import Example, Interaction, Task


@dataclass(frozen=True)
class PrefEvalReader:
    """Reader of PrefEval's `mcq_options/TOPIC.json`: the stated preference is the history."""

    name: str = "prefeval-mcq"
    says: str = "PrefEval MCQ (preference, question, classification_task_options)"

    def guess(self, path: Path) -> float:
        """By the options' name."""
        return 0.95 if "classification_task_options" in (peek(path).first or {}) else 0.0

    def read(self, path: Path, source: Source) -> list[Example]:
        """One example per record; the first option of the file is the right one, so they are shuffled, by place."""
        return read_questions(path, source, lambda number, row: _prefeval(row, number, source.task, path))


def read_questions(
    path: Path, source: Source, convert: Callable[[int, Mapping[str, object]], Example | None]
) -> list[Example]:
    """The example that `convert` makes of each row (place in the file, row); none of a row that gives None.

    What `convert` says by ValueError or TypeError goes to the rejects, also that two questions have one id.
    """
    examples: dict[str, Example] = {}
    for number, (line, row) in enumerate(rows_of(path, source.rejects)):
        try:
            example = convert(number, row)
            if example is None:
                continue
            if example.id in examples:
                raise ValueError(f"question {example.id[:40]!r} stands twice; ids must be unique")
            examples[example.id] = example
        except (ValueError, TypeError) as error:
            source.rejects.add(path, line, str(error), row)
    return list(examples.values())


def _prefeval(row: Mapping[str, object], number: int, task: Task, path: Path) -> Example:
    options = row.get("classification_task_options")
    if not isinstance(options, list) or len(options) < 2 or not all(isinstance(text, str) for text in options):
        raise ValueError("field 'classification_task_options' must be a list of texts, the right one first")
    right, shuffled = options[0], list(options)
    Random(f"{path.stem}-{number}").shuffle(shuffled)
    history = turns([{"role": "user", "content": record_text(row, "preference")}])
    question = record_text(row, "question")
    return choice(task, f"{path.stem}-{number}", "0", question, shuffled, shuffled.index(right), history)


def choice(
    task: Task,
    user: str,
    name: str,
    question: str,
    options: Sequence[str],
    right: int,
    history: tuple[Interaction, ...],
) -> Example:
    """A question with its options, of which the one at place `right` is right; its label is the card's of that place.

    Raises ValueError if the card has not one label per option.
    """
    if len(options) != len(task.labels):
        raise ValueError(f"{len(options)} options; task {task.name} has the labels {', '.join(task.labels)}")
    target = task.labels[right]
    fields = {f"option{place}": plain_text(text) for place, text in enumerate(options, 1)}
    return Example(example_id(user, name), user, task.name, plain_text(question), target, history, fields=fields)


def turns(messages: Iterable[object]) -> tuple[Interaction, ...]:
    """Messages {role, content} as interactions with the fields `user` and `assistant`, in their order.

    A system message, which describes the user, stands under `user` without a reply. Raises ValueError.
    """
    found: list[dict[str, str]] = []
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            raise ValueError("a message of the chat history must be {role, content}")
        content = plain_text(message["content"])
        if message.get("role") != "assistant":
            found.append({"user": content, "assistant": ""})
        elif found and not found[-1]["assistant"]:
            found[-1]["assistant"] = content
        else:
            found.append({"user": "", "assistant": content})
    return tuple(Interaction(str(place), fields) for place, fields in enumerate(found))
