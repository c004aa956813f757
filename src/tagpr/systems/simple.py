"""Trivial baselines, which need no model: what a system has to beat first.

`majority`: the commonest target of the training examples. `user-majority`, `last-label`, `nearest-neighbour`: the
commonest, the latest, and the closest output (BM25 between question and history) of the user's own history; of a
choice, the option closest to the history. `lead-sentence`: the first sentence of the text in question
(if it is not to be rewritten: `tagpr.systems.rewriting`).
A row has no cell if it has nothing to go by (labels of free texts, outputs of histories that have none).
"""

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence

from tagpr.chains.evidence.habits import rewrites
from tagpr.profiles.bm25 import index_of
from tagpr.profiles.retrieval import keys_of, query_of, recency_order
from tagpr.systems.protocol import Answer, NoOptions, System
from tagpr.tasks.types import Example, Kind, Task

_SENTENCE_END = re.compile(r"(?<=[.!?。！？])(?:\s+|(?<=[。！？]))|\n{2,}")


class Majority(System[NoOptions]):
    """The commonest target of the training examples (the first label if there are none)."""

    def covers(self, task: Task) -> bool:
        """Tasks with labels."""
        return task.kind is not Kind.TEXT

    def fit(self, train: Sequence[Example]) -> None:
        """Count targets per task."""
        self.answers = {}
        for name, task in self.context.tasks.items():
            targets = (example.target or "" for example in train if example.task == name)
            self.answers[name] = commonest(targets) or (task.labels[0] if task.labels else "")

    def predict(self, examples: Sequence[Example]) -> list[Answer]:
        """The task's commonest target."""
        return [Answer(self.answers[example.task]) for example in examples]


class FromHistory(Majority):
    """Copies an output of the user's own history; the training majority if the history has none."""

    def covers(self, task: Task) -> bool:
        """Tasks with labels whose profile entries tell theirs."""
        return task.kind is not Kind.TEXT and task.output_field is not None

    def predict(self, examples: Sequence[Example]) -> list[Answer]:
        """The output copied from the history; the task's commonest target if there is none."""
        return [Answer(self.copy(self.context.tasks[e.task], e) or self.answers[e.task]) for e in examples]

    @abstractmethod
    def copy(self, task: Task, example: Example) -> str:
        """The output to copy, "" if there is none."""


class UserMajority(FromHistory):
    """The commonest output of the user's whole history."""

    def copy(self, task: Task, example: Example) -> str:
        """The commonest output of the history."""
        field = task.output_field or ""
        return commonest([item.fields.get(field, "") for item in example.profile])


class LastLabel(FromHistory):
    """The output of the user's latest past item."""

    def copy(self, task: Task, example: Example) -> str:
        """The latest output of the history."""
        order = recency_order(example.profile)
        return example.profile[order[0]].fields.get(task.output_field or "", "") if order else ""


class NearestNeighbour(FromHistory):
    """The output of the past item closest to the question; of a choice, the option closest to any past item."""

    def covers(self, task: Task) -> bool:
        """Choices, and tasks whose profile entries tell their labels."""
        return task.kind is Kind.CHOICE or task.output_field is not None

    def copy(self, task: Task, example: Example) -> str:
        """The option closest to the history (BM25); of other tasks, the output of the entry closest to the question."""
        if not example.profile:
            return ""
        index = index_of(keys_of(task, example.profile), task.bm25)
        if task.kind is Kind.CHOICE:
            options = [example.fields.get(f"option{i}", "") for i in range(1, len(task.labels) + 1)]
            best = [float(index.scores(option).max()) for option in options]
            return task.labels[best.index(max(best))]
        closest = index.top(query_of(task, example), 1)[0]
        return example.profile[closest].fields.get(task.output_field or "", "")


class LeadSentence(System[NoOptions]):
    """The first sentence of the longest input field (of the question itself if the example has no fields)."""

    def covers(self, task: Task) -> bool:
        """Tasks that ask for a text, except those that rewrite a given one."""
        return task.kind is Kind.TEXT and not rewrites(task)

    def predict(self, examples: Sequence[Example]) -> list[Answer]:
        """The first sentence of the input."""
        return [Answer(lead_sentence(self.context.tasks[example.task], example)) for example in examples]


def commonest(labels: Iterable[str]) -> str:
    """The commonest label; among equals the one seen last (profiles are oldest first); "" of none."""
    counts: Counter[str] = Counter()
    for label in filter(None, labels):
        counts[label] = counts.pop(label, 0) + 1  # the one seen last stands last
    top = max(counts.values(), default=0)
    return next((label for label in reversed(counts) if counts[label] == top), "")


def lead_sentence(task: Task, example: Example) -> str:
    """The first sentence of an example's text."""
    texts = [example.fields[name] for name in task.input_fields if example.fields.get(name)]
    text = max(texts, key=len) if texts else (example.query or example.input)
    return _SENTENCE_END.split(text.strip(), maxsplit=1)[0].strip()
