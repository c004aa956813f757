"""Answers marked by judges, before they are scored: the columns `rubric` and `win_rate`, and `judge.json`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tagpr.errors import RecipeError
from tagpr.evaluation.predictions import Prediction
from tagpr.evaluation.scoring import SystemAnswers
from tagpr.files import write_json
from tagpr.judges.choosing import Choice, Duel, choose_better
from tagpr.judges.marking import Judged, Judges, Submission, verdicts
from tagpr.judges.settings import JudgeSettings
from tagpr.progress import Progress, silent
from tagpr.statistics import mean_interval
from tagpr.tasks.rubric_target import RUBRIC, WIN_RATE, RubricTarget, is_judged
from tagpr.tasks.types import Example, Kind, Task


def need_judges(tasks: Mapping[str, Task], settings: JudgeSettings | None) -> None:
    """Raise RecipeError, before hours of answering, if a task is marked by judges and there are none."""
    open_tasks = [name for name, task in tasks.items() if RUBRIC in task.metrics]
    if open_tasks and settings is None:
        raise RecipeError(
            f"task {open_tasks[0]} is marked by judges; add a block judge: {{judges: [{{model: ..., base_url: ...}}]}}"
        )


def judge_answers(
    answered: Sequence[SystemAnswers],
    tasks: Mapping[str, Task],
    heldout: Mapping[str, Sequence[Example]],
    judges: Judges,
    out: Path,
    progress: Progress = silent,
) -> list[SystemAnswers]:
    """The answers with the judges' scores in `scores` (and, on tasks that only judges mark, in `correctness`).

    A rubric with criteria of its own marks every text task; one without only questions that bring theirs. An answer of
    which no verdict could be read has 0 and is counted in the notes. Writes `out`. Raises RunError at a cap; what was
    answered is kept, and the same command goes on.
    """
    report: dict[str, object] = {}
    found = [replace(system, predictions=dict(system.predictions), notes=dict(system.notes)) for system in answered]
    for name, task in tasks.items():
        examples = {example.id: example for example in heldout.get(name, ())}
        if task.kind is not Kind.TEXT or not (judges.rubric.criteria or _bring_aspects(examples.values())):
            continue
        rows = {system.name: system.predictions[name] for system in found if name in system.predictions}
        submissions = {system: [_submission(examples, row) for row in own] for system, own in rows.items()}
        flat = [one for own in submissions.values() for one in own]
        judged = iter(judges.mark(flat, progress))
        by_system = {system: [next(judged) for _ in own] for system, own in submissions.items()}
        wins = _win_rates(judges, rows, submissions, progress)
        for system in found:
            if system.name in rows:
                _enter(system, name, by_system[system.name], wins.get(system.name))
        report[name] = _summary(rows, by_system, wins)
    if report:
        write_json(out, report)
    return found


def _bring_aspects(examples: Iterable[Example]) -> bool:
    targets = [RubricTarget.from_text(example.target or "") for example in examples]
    return all(target is not None and target.aspects for target in targets)


def _submission(examples: Mapping[str, Example], row: Prediction) -> Submission:
    example = examples.get(row.id)
    return Submission.of(example.input if example is not None else "", row.answer, row.target)


def _enter(system: SystemAnswers, task: str, judged: Sequence[Judged], wins: Sequence[Choice] | None) -> None:
    """Put the judges' scores into the system's predictions."""
    rows = []
    for place, (row, one) in enumerate(zip(system.predictions[task], judged, strict=True)):
        scores = {**row.scores, RUBRIC: one.score or 0.0}
        if wins is not None:
            scores[WIN_RATE] = wins[place].wins
        rows.append(
            replace(row, scores=scores, correctness=scores[RUBRIC] if is_judged(row.target) else row.correctness)
        )
    system.predictions[task] = rows
    if lost := sum(one.score is None for one in judged):
        system.notes[task] = {**system.notes.get(task, {}), "no readable verdict": lost}


def _win_rates(
    judges: Judges,
    rows: Mapping[str, Sequence[Prediction]],
    submissions: Mapping[str, Sequence[Submission]],
    progress: Progress,
) -> dict[str, list[Choice]]:
    """The first judge's choices between each system's answers and those of `judge.against`."""
    against = judges.settings.against
    if against is None or against not in rows:
        return {}
    found = {}
    for system, own in submissions.items():
        duels = [
            Duel(one.question, one.answer, other.answer, one.background, judges.rubric.criteria_of(one.aspects))
            for one, other in zip(own, submissions[against], strict=True)
        ]
        found[system] = choose_better(judges.models[0], duels, progress)
    return found


def _summary(
    rows: Mapping[str, Sequence[Prediction]],
    judged: Mapping[str, Sequence[Judged]],
    wins: Mapping[str, Sequence[Choice]],
) -> dict[str, object]:
    """What `judge.json` says of one task."""
    systems: dict[str, object] = {}
    for system, own in judged.items():
        score = mean_interval([one.score or 0.0 for one in own], [row.user_id for row in rows[system]])
        systems[system] = {RUBRIC: asdict(score), **asdict(verdicts(own))}
    every = verdicts([one for own in judged.values() for one in own])
    report: dict[str, object] = {"all": asdict(every), "systems": systems}
    choices = [choice for own in wins.values() for choice in own]
    if choices:
        report["both_orders"] = {
            "asked": len(choices),
            "same_verdict": sum(choice.consistent for choice in choices) / len(choices),
            "unreadable": sum(not choice.readable for choice in choices),
        }
    return report
