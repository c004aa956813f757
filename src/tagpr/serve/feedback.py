"""What users say of answers, kept as preference pairs: the question, the history as shown, chosen and rejected."""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import Vocabulary
from tagpr.data.values import label_of
from tagpr.errors import DataError
from tagpr.marks import END_THINK
from tagpr.profiles.database import Database
from tagpr.serve.questions import Asked
from tagpr.tasks.types import Interaction, Task

_SCHEMA = """
CREATE TABLE IF NOT EXISTS feedback (
  id TEXT PRIMARY KEY, user_id TEXT NOT NULL, record TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS feedback_of_user ON feedback (user_id);
"""


@dataclass(frozen=True)
class Feedback:
    """One judgement of one answer."""

    id: str
    user: str
    task: str
    system: str
    date: str
    question: str
    entries: tuple[str, ...]
    """Ids of the history items that were shown."""
    messages: tuple[Mapping[str, str], ...]
    """The prompt as the model saw it."""
    rating: Literal["up", "down"]
    chosen: str | None
    """The better text: the answer that was liked, or the correction of one that was not."""
    rejected: str | None
    """The worse text; a pair needs both."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """The question's fields."""
    shown: tuple[Interaction, ...] = ()
    """The history items that were shown, best first, as they were then."""


def new_feedback(asked: Asked, rating: Literal["up", "down"], answer: str, better: str | None) -> Feedback:
    """The judgement of `answer` to a put question; `better` is what the user would rather have read."""
    chosen, rejected = (answer, None) if rating == "up" else (better, answer)
    return Feedback(
        id=uuid.uuid4().hex,
        user=asked.user,
        task=asked.task.name,
        system=asked.system,
        date=datetime.now(UTC).isoformat(timespec="microseconds"),
        question=asked.example.input,
        entries=tuple(entry.id for entry in asked.entries),
        messages=tuple(dict(message) for message in asked.messages),
        rating=rating,
        chosen=chosen,
        rejected=rejected,
        fields=dict(asked.example.fields),
        shown=asked.entries,
    )


def bare_answer(vocabulary: Vocabulary, text: str) -> str:
    """The answer of a turn, or of a text that is one."""
    return parse_response(text, vocabulary).answer if END_THINK in text else text.strip()


def corrected_answer(task: Task, vocabulary: Vocabulary, better: str) -> str:
    """The answer that `better` teaches. Raises DataError for one that no answer to the task can be."""
    answer = bare_answer(vocabulary, better)
    if not task.labels:
        return answer
    label = label_of(answer, task.labels)
    if label not in task.labels:
        raise DataError(f"the better answer is no label of task {task.name}; give one of {', '.join(task.labels)}")
    return label


class FeedbackStore:
    """Judgements in an SQLite file, durable when `add` returns."""

    def __init__(self, path: Path) -> None:
        self.database = Database(path, _SCHEMA)

    def add(self, feedback: Feedback) -> None:
        """Keep one judgement."""
        row = (feedback.id, feedback.user, json.dumps(asdict(feedback), ensure_ascii=False))
        self.database.write(lambda connection: connection.execute("INSERT INTO feedback VALUES (?, ?, ?)", row))

    def all(self, user: str | None = None) -> Iterator[Feedback]:
        """Every judgement, or a user's, oldest first."""
        rows = self.database.connection.execute(
            "SELECT record FROM feedback WHERE (?1 IS NULL OR user_id = ?1)", (user,)
        ).fetchall()
        records = [json.loads(record) for (record,) in rows]
        for values in sorted(records, key=lambda record: record["date"]):
            shown = tuple(Interaction(**item) for item in values.get("shown", ()))
            texts = {"entries": tuple(values["entries"]), "messages": tuple(values["messages"])}
            yield Feedback(**{**values, **texts, "shown": shown})

    def delete_user(self, user: str) -> int:
        """Remove a user's judgements, from the disk too; returns how many that were."""
        statement = "DELETE FROM feedback WHERE user_id = ?"
        removed = self.database.write(lambda connection: connection.execute(statement, (user,)).rowcount)
        self.database.scrub()
        return removed

    def close(self) -> None:
        """Close all connections."""
        self.database.close()
