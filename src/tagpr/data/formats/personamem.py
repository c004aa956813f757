"""PersonaMem v1 and v2: questions over a user's long chat history, with four replies to choose from.

v2 is also read in its text form: under a card of kind text the question stands without options, and what the judges are
told is the preference that the reply must fit.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random

from tagpr.data.formats.chats import choice, read_questions, turns
from tagpr.data.formats.json_list import read_text
from tagpr.data.formats.profiles import record_text
from tagpr.data.formats.protocol import Source
from tagpr.data.formats.rows import Container, peek, rows_of
from tagpr.data.ids import example_id
from tagpr.data.rejects import Rejects
from tagpr.data.values import absent
from tagpr.errors import DataError
from tagpr.tasks import Example, Interaction, Task
from tagpr.tasks.rubric_target import RubricTarget
from tagpr.tasks.types import Kind

OPTIONS_SEED = 42
"""v2's own: row i (from 0) shuffles its options with seed 42 + i."""
MOST_OPTIONS = 4
"""v2 shows the first so many of a row's replies."""
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


def _contexts_of(path: Path) -> Path:
    return path.with_name(path.name.replace("questions", "shared_contexts")).with_suffix(".jsonl")


def _personamem_1(row: Mapping[str, object], task: Task, contexts: Mapping[str, Sequence[object]]) -> Example:
    name, end = record_text(row, "shared_context_id"), int(float(record_text(row, "end_index_in_shared_context")))
    if name not in contexts:
        raise ValueError(f"shared_context_id {name[:40]!r} is not among the shared contexts")
    messages = contexts[name]
    if not 0 <= end <= len(messages):
        raise ValueError(f"end_index_in_shared_context {end} is beyond the {len(messages)} messages of its context")
    options = _lettered(record_text(row, "all_options"))
    answer, letters = record_text(row, "correct_answer"), [chr(ord("a") + place) for place in range(len(options))]
    if (letter := answer.lower().strip("() ")) not in letters:
        raise ValueError(f"answer {answer[:40]!r} is none of {', '.join(f'({name})' for name in letters)}")
    question = record_text(row, "user_question_or_message")
    user, name = record_text(row, "persona_id"), record_text(row, "question_id")
    return choice(task, user, name, question, options, letters.index(letter), turns(messages[:end]))


def _personamem_2(row: Mapping[str, object], number: int, task: Task, path: Path, size: str) -> Example:
    query = _literal(record_text(row, "user_query"), "user_query")
    if not isinstance(query, dict) or not isinstance(query.get("content"), str):
        raise ValueError("field 'user_query' must be {'role': ..., 'content': text}")
    question, user = query["content"], record_text(row, "persona_id")
    history = _chat_history(_linked(path, record_text(row, f"chat_history_{size}_link")))
    if task.kind is Kind.TEXT:
        key = "groundtruth_preference" if absent(row.get("preference")) else "preference"
        target = RubricTarget(question, record_text(row, key)).to_text()
        return Example(example_id(user, str(number)), user, task.name, question, target, history)
    wrong = _literal(record_text(row, "incorrect_answers"), "incorrect_answers")
    if not isinstance(wrong, list) or not all(isinstance(answer, str) for answer in wrong):
        raise ValueError("field 'incorrect_answers' must be a list of texts")
    right = record_text(row, "correct_answer")
    options = [right, *wrong][:MOST_OPTIONS]
    Random(OPTIONS_SEED + number).shuffle(options)
    return choice(task, user, str(number), question, options, options.index(right), history)


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
    messages = content.get("chat_history") if isinstance(content, dict) else content
    if not isinstance(messages, list):
        raise ValueError(f"chat history {path.name} must be a list of messages, or an object with it as 'chat_history'")
    return turns(messages)
