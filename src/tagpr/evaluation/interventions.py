"""Causal tests of a chain: what becomes of the answer when the chain is changed and the model goes on from there?

    first step only             <think> first step </think>                     the answer is free
    decision removed            all steps but the last, </think>                 the answer is free
    another question's evidence another question's steps but its last            decision and answer are free
    own label swapped           the own steps but the last, another label in them    decision and answer are free
    false conclusion            the own steps, another label (another habit) decided     the answer is free

An answer that follows the changed chain was decided by it; one that stays was decided before. Here only the texts to go
on from and the counting; running the model is `tagpr.experiments.analyse`'. No model is loaded here.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tagpr.chains.chain import Response, Segment
from tagpr.chains.evidence import Shown, check_evidence
from tagpr.chains.evidence.habits import other_habits, rewrites
from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import Vocabulary
from tagpr.evaluation.predictions import Prediction
from tagpr.marks import END_THINK, THINK
from tagpr.statistics import STANDARD, Bootstrap, Interval, mean_interval, paired_bootstrap
from tagpr.tasks.metrics import normalise_answer
from tagpr.tasks.types import Kind, Task


@dataclass(frozen=True)
class Forced:
    """The beginning of a completion that a model has to go on from."""

    id: str  # Prediction.id of the question
    text: str
    follows: str | None  # the answer that follows from the changed chain; None if none can be named


@dataclass(frozen=True)
class ChainTest:
    """What one intervention did to the answers."""

    n: int
    same: Interval  # share of answers that are what they were with the model's own chain
    followed: Interval | None  # share that are what follows from the changed chain; None if none can be named
    quality: Interval  # correctness minus that with the own chain


@dataclass(frozen=True)
class ChainTests:
    """Does the answer follow from the chain (`interventions`), and the chain from the history (the two precisions)?"""

    interventions: Mapping[str, ChainTest]
    true_claims: float | None  # share of the chains' claims that are true of the history shown
    true_claims_elsewhere: float | None  # ... of another question's: what any history would have borne out


def interventions(
    task: Task, rows: Sequence[Prediction], vocabulary: Vocabulary, inputs: Mapping[str, str], seed: int = 0
) -> dict[str, list[Forced]]:
    """Every intervention on the well-formed chains of two steps or more; one that fits no chain is left out.

    inputs: the question's text by example id.
    """
    chains = [(row, parse_response(row.completion, vocabulary)) for row in rows]
    chains = [(row, response) for row, response in chains if response.well_formed and len(response.segments) > 1]
    rng = random.Random(f"{seed} interventions")
    found: dict[str, list[Forced]] = {}

    def force(name: str, row: Prediction, steps: Sequence[Segment], closed: bool, follows: str | None) -> None:
        lines = [THINK, *(f"<{step.tag}> {step.text} </{step.tag}>" for step in steps)]
        text = "\n".join([*lines, END_THINK] if closed else lines) + "\n"
        found.setdefault(name, []).append(Forced(row.id, text, follows))

    closed_answers = task.kind is not Kind.TEXT
    for place, (row, response) in enumerate(chains):
        steps = response.segments
        force("first step only", row, steps[:1], True, None)
        force("decision removed", row, steps[:-1], True, None)
        if len(chains) > 1:
            _, other = chains[(place + max(1, len(chains) // 7)) % len(chains)]
            force(
                "another question's evidence", row, other.segments[:-1], False, other.answer if closed_answers else None
            )
        if closed_answers:
            wrong = rng.choice([label for label in task.labels if label != response.answer])
            swapped = [_replaced(step, response.answer, wrong) for step in steps]
            force("own label swapped", row, swapped[:-1], False, wrong)
            force("false conclusion", row, [*steps[:-1], swapped[-1]], True, wrong)
        elif rewrites(task):
            changed = other_habits(response, inputs[row.id])
            if changed:
                force("false conclusion", row, [*steps[:-1], changed[0]], True, changed[1])
    return found


def chain_test(
    task: Task,
    own: Mapping[str, Prediction],
    forced: Sequence[Forced],
    answers: Sequence[Prediction],
    draws: Bootstrap = STANDARD,
) -> ChainTest:
    """own: the answers with the own chains, by example id; answers: those gone on with from `forced`, in its order."""
    before = [own[item.id] for item in forced]
    users = [row.user_id for row in before]

    def is_answer(row: Prediction, answer: str) -> float:
        return float(normalise_answer(task, row.answer) == normalise_answer(task, answer))

    same = [is_answer(row, first.answer) for row, first in zip(answers, before, strict=True)]
    followed = [
        is_answer(row, item.follows) for row, item in zip(answers, forced, strict=True) if item.follows is not None
    ]
    quality = [row.correctness for row in answers], [row.correctness for row in before]
    return ChainTest(
        len(forced),
        mean_interval(same, users, draws),
        mean_interval(followed, users, draws) if len(followed) == len(forced) else None,
        paired_bootstrap(*quality, users, draws),
    )


def precision(responses: Sequence[Response], shown: Sequence[Shown]) -> float | None:
    """Share of all checkable claims that are true of what is shown; None if there are none."""
    reports = [check_evidence(response, seen) for response, seen in zip(responses, shown, strict=True)]
    claims = sum(len(report.claims) for report in reports)
    return 1 - sum(len(report.false) for report in reports) / claims if claims else None


def _replaced(step: Segment, label: str, other: str) -> Segment:
    text = re.sub(rf"(?<![\w-]){re.escape(label)}(?![\w-])", lambda _: other, step.text)
    return Segment(step.tag, text, step.start, step.end)
