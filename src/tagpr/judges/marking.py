"""`Judges`: several models mark answers by a rubric, one call per answer, criterion and judge, all through the caching,
budgeted, resumable call engine. Equal questions are asked once; a stopped marking goes on where it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tagpr.clients.cache import default_cache
from tagpr.clients.types import Reply, Request, Spend
from tagpr.engine.cached_model import CachedModel
from tagpr.judges.agreement import krippendorff_alpha
from tagpr.judges.rubric import Criterion, Rubric, load_rubric
from tagpr.judges.settings import JudgeSettings
from tagpr.judges.wording import read_mark, worded
from tagpr.progress import Progress, silent
from tagpr.tasks.rubric_target import Aspect, RubricTarget

Marks = Mapping[str, int | None]
"""Criterion -> mark; None if the verdict could not be read."""


@dataclass(frozen=True)
class Submission:
    """An answer, and what the judges are told besides."""

    question: str
    answer: str
    background: str = ""
    reference: str = ""
    aspects: tuple[Aspect, ...] = ()

    @classmethod
    def of(cls, question: str, answer: str, target: str) -> "Submission":
        """The answer to an example: its target is a rubric's, or a text to compare with."""
        rubric = RubricTarget.from_text(target)
        if rubric is None:
            return cls(question, answer, reference=target)
        return cls(rubric.question, answer, rubric.background, aspects=rubric.aspects)


@dataclass(frozen=True)
class Judged:
    """What all judges say of one answer."""

    score: float | None  # mean over the judges that could be read, in [0, 1]
    marks: tuple[Marks, ...] = ()  # by judge; none of an empty answer


@dataclass(frozen=True)
class Verdicts:
    """What became of the calls, and how far the judges agree."""

    asked: int = 0
    unreadable: int = 0  # refused ones too
    agreement: float | None = None  # Krippendorff's alpha (interval) over answers x criteria; None with one judge
    by_criterion: Mapping[str, float] = field(default_factory=dict)  # mean mark


class Marker(Protocol):
    """Whatever marks submissions; `Judges` is one."""

    def mark(self, submissions: Sequence[Submission], progress: Progress = silent) -> list[Judged]:
        """One judgement per submission."""
        ...


class Judges:
    """The judges of a recipe. Models are called, or loaded, on first use."""

    def __init__(self, settings: JudgeSettings, rubric: Rubric, spend: Spend | None = None) -> None:
        self.rubric, self.settings, self.spend = rubric, settings, spend or Spend()
        cache = settings.cache or default_cache()
        greedy = [
            one if "temperature" in one.model_fields_set else one.model_copy(update={"temperature": 0.0})
            for one in settings.judges
        ]
        self.models: list[CachedModel] = [CachedModel(one, settings.calls, cache, self.spend) for one in greedy]

    @classmethod
    def load(cls, settings: JudgeSettings, folder: Path, rubric: str | None = None) -> "Judges":
        """The judges with the rubric that `settings` or `rubric` names. Raises RecipeError if there is no such one."""
        return cls(settings, load_rubric(rubric or settings.rubric, folder))

    def mark(self, submissions: Sequence[Submission], progress: Progress = silent) -> list[Judged]:
        """A score in [0, 1] for each submission; an empty answer has 0 without a call.

        Raises RunError at a cap (what was paid for is kept: raise it and run again), ModelError if no call can work.
        """
        asked = [
            (i, criterion)
            for i, one in enumerate(submissions)
            if one.answer.strip()
            for criterion in self.rubric.criteria_of(one.aspects)
        ]
        requests = [self._request(submissions[i], criterion) for i, criterion in asked]
        tables: list[dict[int, dict[str, int | None]]] = []
        for number, model in enumerate(self.models, 1):
            note = f"judge {number} of {len(self.models)}"
            replies = model.generate(requests, lambda done, total, _, note=note: progress(done, total, note))
            table: dict[int, dict[str, int | None]] = {}
            for (i, criterion), reply in zip(asked, replies, strict=True):
                mark = read_mark(reply.content, criterion.points) if isinstance(reply, Reply) else None
                table.setdefault(i, {})[criterion.name] = mark
            tables.append(table)
        return [self._judged(one, [table.get(i, {}) for table in tables]) for i, one in enumerate(submissions)]

    def _request(self, one: Submission, criterion: Criterion) -> Request:
        return worded(
            "criterion",
            question=one.question,
            background=one.background,
            reference=one.reference,
            answer=one.answer,
            criterion=criterion,
        )

    def _judged(self, submission: Submission, marks: Sequence[Marks]) -> Judged:
        if not submission.answer.strip():
            return Judged(0.0)
        scores = [self.rubric.joined(self.rubric.criteria_of(submission.aspects), one) for one in marks]
        read = [score for score in scores if score is not None]
        return Judged(sum(read) / len(read) if read else None, tuple(marks))


def verdicts(judged: Sequence[Judged]) -> Verdicts:
    """Counts and agreement over judged answers."""
    units = [
        [marks[name] for marks in one.marks] for one in judged if one.marks for name in one.marks[0]
    ]  # fmt: skip
    marks = [mark for unit in units for mark in unit]
    names = dict.fromkeys(name for one in judged if one.marks for name in one.marks[0])
    means = {}
    for name in names:
        read = [m[name] for one in judged for m in one.marks if m.get(name) is not None]
        if read and len(names) <= 12:  # a question's own aspects are too many to list
            means[name] = sum(value or 0 for value in read) / len(read)
    agreement = krippendorff_alpha(units) if units and len(units[0]) > 1 else None
    return Verdicts(len(marks), sum(mark is None for mark in marks), agreement, means)
