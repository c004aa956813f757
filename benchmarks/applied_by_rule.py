"""Change notes written by a program from what a model's chains decide: deciding and carrying out, told apart."""

from collections.abc import Sequence

from tagpr.chains.evidence.habits import applied
from tagpr.chains.grammar import parse_response
from tagpr.evaluation.predictions import Prediction
from tagpr.runs import Run
from tagpr.tasks.metrics import correctness


def applied_by_rule(run: Run, card: str, answered: Sequence[Prediction]) -> list[float]:
    """Correctness of the neutral texts in the decided habits, in the order of the held-out questions.

    A chain that decides nothing keeps its answer.
    """
    task, rows = run.tasks[card], {one.id: one for one in answered}
    scores = []
    for example in run.data[card].heldout:
        row = rows[example.id]
        note = applied(parse_response(row.completion, run.vocabulary), example.input)
        scores.append(correctness(task, row.answer if note is None else note, example.target or ""))
    return scores
