"""Benchmarks of multiple choice over a user's chat history: PersonaMem v1 and v2, and PrefEval's MCQ.

Every message of a chat becomes part of the history: a user's turn with the assistant's reply is one interaction, a
system message one of its own. An example's fields hold the options, so that baselines can look at them.
"""

import ast
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random

from tagpr.data.formats.json_list import read_text
from tagpr.data.formats.profiles import record_text
from tagpr.data.formats.protocol import Source
from tagpr.data.formats.rows import Container, peek, rows_of
from tagpr.data.ids import example_id
from tagpr.data.rejects import Rejects
from tagpr.data.values import plain_text
from tagpr.errors import DataError
from tagpr.tasks import Example, Interaction, Task

PERSONAMEM_2_SEED = 42
"""PersonaMem v2's own: row i (from 0) shuffles its options with seed 42 + i."""
_OPTION = re.compile(r"\(([a-z])\)\s*")


@dataclass(frozen=True)
class PersonaMemReader:
    """Reader of `questions_SIZE.csv` beside `shared_contexts_SIZE.jsonl`."""

    name: str = "personamem-v1"
    says: str = "PersonaMem v1 questions (CSV) beside their shared contexts (JSONL)"

    def guess(self, path: Path) -> float:
        """By the columns."""
        first = peek(path).first or {}
        return 0.95 if {"shared_context_id", "all_options"} <= set(first) else 0.0

    def also_reads(self, path: Path) -> list[Path]:
        """The shared contexts."""
        beside = _contexts_of(path)
        return [beside] if beside != path and beside.is_file() else []

    def read(self, path: Path, source: Source) -> list[Example]:
        """One example per question; the history ends where the question was asked."""
        beside = _contexts_of(path)
        if beside == path:
            raise DataError(f"{path}: call it questions_SIZE.csv, with shared_contexts_SIZE.jsonl beside it")
        if not beside.is_file():
            raise DataError(f"{path}: no {beside.name} beside it; put the file of its shared contexts there")
        contexts = _shared_contexts(beside, source.rejects)
        return read_questions(path, source, lambda number, row: _personamem_1(row, source.task, contexts))


@dataclass(frozen=True)
class PersonaMem2Reader:
    """Reader of v2's `benchmark.csv`, whose rows name the files of their chat histories."""

    name: str = "personamem-v2"
    says: str = "PersonaMem v2 questions (CSV) that name their chat histories (JSON)"
    size: str = "32k"

    def guess(self, path: Path) -> float:
        """By the columns."""
        first = peek(path).first or {}
        return 0.95 if {"user_query", "incorrect_answers"} <= set(first) else 0.0

    def also_reads(self, path: Path) -> list[Path]:
        """The chat histories that the rows name."""
        found: dict[Path, None] = {}
        with suppress(DataError):  # which reading says
            for _, row in rows_of(path, Rejects(skip=True)):
                with suppress(ValueError):
                    found[_linked(path, str(row.get(f"chat_history_{self.size}_link")))] = None
        return list(found)

    def read(self, path: Path, source: Source) -> list[Example]:
        """One example per row."""
        return read_questions(
            path, source, lambda number, row: _personamem_2(row, number, source.task, path, self.size)
        )


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


def _contexts_of(path: Path) -> Path:
    return path.with_name(path.name.replace("questions", "shared_contexts")).with_suffix(".jsonl")


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


def _personamem_1(row: Mapping[str, object], task: Task, contexts: Mapping[str, Sequence[object]]) -> Example:
    name, end = record_text(row, "shared_context_id"), int(float(record_text(row, "end_index_in_shared_context")))
    if name not in contexts:
        raise ValueError(f"shared_context_id {name[:40]!r} is not among the shared contexts")
    messages = contexts[name]
    if not 0 <= end <= len(messages):
        raise ValueError(f"end_index_in_shared_context {end} is beyond the {len(messages)} messages of its context")
    target = record_text(row, "correct_answer").strip()
    options = _lettered(record_text(row, "all_options"))
    return _example(
        task,
        record_text(row, "persona_id"),
        record_text(row, "question_id"),
        record_text(row, "user_question_or_message"),
        options,
        target,
        turns(messages[:end]),
    )


def _personamem_2(row: Mapping[str, object], number: int, task: Task, path: Path, size: str) -> Example:
    query = _literal(record_text(row, "user_query"), "user_query")
    wrong = _literal(record_text(row, "incorrect_answers"), "incorrect_answers")
    if not isinstance(query, dict) or not isinstance(query.get("content"), str):
        raise ValueError("field 'user_query' must be {'role': ..., 'content': text}")
    if not isinstance(wrong, list) or not all(isinstance(answer, str) for answer in wrong):
        raise ValueError("field 'incorrect_answers' must be a list of texts")
    right = record_text(row, "correct_answer")
    options = [right, *wrong]
    Random(PERSONAMEM_2_SEED + number).shuffle(options)
    link = record_text(row, f"chat_history_{size}_link")
    user = record_text(row, "persona_id")
    history = _chat_history(_linked(path, link))
    return _example(task, user, str(number), query["content"], options, _label(options.index(right)), history)


def _prefeval(row: Mapping[str, object], number: int, task: Task, path: Path) -> Example:
    options = row.get("classification_task_options")
    if not isinstance(options, list) or len(options) < 2 or not all(isinstance(text, str) for text in options):
        raise ValueError("field 'classification_task_options' must be a list of texts, the right one first")
    right, shuffled = options[0], list(options)
    Random(f"{path.stem}-{number}").shuffle(shuffled)
    history = turns([{"role": "user", "content": record_text(row, "preference")}])
    question, target = record_text(row, "question"), _label(shuffled.index(right))
    return _example(task, f"{path.stem}-{number}", "0", question, shuffled, target, history)


def _example(
    task: Task,
    user: str,
    name: str,
    question: str,
    options: Sequence[str],
    target: str,
    history: tuple[Interaction, ...],
) -> Example:
    if len(options) != len(task.labels):
        raise ValueError(f"{len(options)} options; task {task.name} has the labels {', '.join(task.labels)}")
    if target not in task.labels:
        raise ValueError(f"answer {target[:40]!r} is none of {', '.join(task.labels)}")
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


def _shared_contexts(path: Path, rejects: Rejects) -> dict[str, Sequence[object]]:
    """Every line is one object of one key, the context's id, with its messages."""
    contexts: dict[str, Sequence[object]] = {}
    for line, row in rows_of(path, rejects, Container.JSONL):
        for name, messages in row.items():
            if isinstance(messages, list):
                contexts[name] = messages
            else:
                rejects.add(path, line, "must be {shared_context_id: [messages]}", row)
    return contexts


def _lettered(text: str) -> list[str]:
    """The options of "(a) ... (b) ...", in order, without their letters. Raises ValueError."""
    if text.lstrip().startswith("["):
        parts = _literal(text, "all_options")
        text = "\n".join(str(part) for part in parts) if isinstance(parts, list) else text
    places = []
    for found in _OPTION.finditer(text):  # "(b)" counts only after "(a)": an option may hold brackets of its own
        if found[1] == chr(ord("a") + len(places)):
            places.append(found)
    ends = [*(place.start() for place in places[1:]), len(text)]
    if len(places) < 2:
        raise ValueError("field 'all_options' must list (a) ..., (b) ...")
    return [text[place.end() : end].strip() for place, end in zip(places, ends, strict=True)]


def _label(place: int) -> str:
    return f"({chr(ord('a') + place)})"


def _literal(text: str, key: str) -> object:
    """A Python literal, as pandas writes dicts and lists into CSV. Nothing is executed. Raises ValueError."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise ValueError(f"field {key!r} is no Python literal (a list or dict as text)") from None


def _linked(path: Path, link: str) -> Path:
    """A history's file: `link` from the questions' folder or one above it, inside the dataset. Raises ValueError."""
    if Path(link).is_absolute() or ".." in Path(link).parts:
        raise ValueError(f"chat history {link[:80]!r} must be a path inside the dataset")
    for folder in path.absolute().parents:
        if (folder / link).is_file():
            return folder / link
    raise ValueError(f"chat history {link[:80]!r} is not there; download the dataset with its folders")


@lru_cache(maxsize=64)
def _chat_history(path: Path) -> tuple[Interaction, ...]:
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError):
        raise ValueError(f"chat history {path.name} is not JSON") from None
    messages = content.get("chat_history") if isinstance(content, dict) else None
    if not isinstance(messages, list):
        raise ValueError(f"chat history {path.name} must be an object with a list 'chat_history'")
    return turns(messages)
