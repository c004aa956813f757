"""Beyond "is it better": over-use of the profile, counterfactuals, evidence, cold start, who loses.

Each function works on predictions (and examples); those that need new answers take them as more predictions of the same
questions: with another user's history, with none, with changed labels (`tagpr.evaluation.questions` makes these).
No model is loaded here.
"""

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tagpr.evaluation.predictions import Prediction
from tagpr.statistics import paired_bootstrap
from tagpr.tasks.answers import normalise_answer
from tagpr.tasks.types import Example, Interaction, Kind, Task

HISTORY_BINS = (0, 1, 2, 4, 8, 16, 32)
"""Lower bounds of the bins of history length; the last one is open."""
_QUOTED = re.compile(r"[\"“«]([^\"“”«»\n]{4,300})[\"”»]")


def profile_use(
    task: Task, own: Sequence[Prediction], changed: Sequence[Prediction], resamples: int = 10_000, seed: int = 0
) -> dict[str, Any]:
    """How answers and quality move when the history is another one (somebody else's, none, with changed labels).

    own, changed: the same questions in the same order. `moved`: share of answers that differ; `quality`: score with the
    changed history minus score with the own, with its interval. A model that over-uses profiles moves much and loses
    much; one that ignores them does not move.
    """
    _same_questions(own, changed)
    moved = [
        float(normalise_answer(task, a.answer) != normalise_answer(task, b.answer))
        for a, b in zip(own, changed, strict=True)
    ]
    users = [row.user_id for row in own]
    zero = [0.0] * len(moved)
    return {
        "n": len(moved),
        "moved": paired_bootstrap(moved, zero, users, resamples, seed).as_dict(),
        "quality": paired_bootstrap(
            [row.correctness for row in changed], [row.correctness for row in own], users, resamples, seed
        ).as_dict(),
    }


def has_labels(task: Task) -> bool:
    """Whether the task's history has labels that can be exchanged."""
    return task.kind is not Kind.TEXT and task.output_field is not None and len(task.labels) >= 2


def change_labels(task: Task, examples: Sequence[Example], seed: int) -> list[Example]:
    """The counterfactual questions: every history with its labels exchanged by one random permutation per user.

    A model that reads the history changes its answer along; one that goes by the text does not. Only for tasks whose
    history has labels. Raises ValueError for others.
    """
    if not has_labels(task):
        raise ValueError(f"task {task.name}: its history has no labels to change")
    changed = []
    for example in examples:
        mapping = _derangement(task.labels, random.Random(f"{seed} {example.user_id}"))
        profile = tuple(_relabelled(item, task.output_field or "", mapping) for item in example.profile)
        changed.append(replace(example, profile=profile))
    return changed


def _derangement(labels: Sequence[str], rng: random.Random) -> dict[str, str]:
    """Every label to another one: a rotation of a random order."""
    order = rng.sample(list(labels), len(labels))
    return dict(zip(order, order[1:] + order[:1], strict=True))


def _relabelled(item: Interaction, field: str, mapping: Mapping[str, str]) -> Interaction:
    label = item.fields.get(field, "")
    return replace(item, fields={**item.fields, field: mapping.get(label, label)})


def quotations(chain: str) -> list[str]:
    """What a chain puts in quotation marks, in order."""
    return [match[1] for match in _QUOTED.finditer(chain) if _folded(match[1])]


def sources(texts: Iterable[str]) -> list[str]:
    """Texts in the form that `stands_in` compares: lower case, single spaces."""
    return [_folded(text) for text in texts]


def stands_in(quotation: str, folded: Sequence[str]) -> bool:
    """Whether a quotation is part of one of `sources(...)`, whatever its case, spacing and outer punctuation."""
    return any(_folded(quotation) in text for text in folded)


def history_texts(example: Example) -> list[str]:
    """Every text of a person's history."""
    return [value for item in example.profile for value in item.fields.values()]


def evidence(rows: Sequence[Prediction], examples: Sequence[Example]) -> dict[str, Any]:
    """How many of the quotations in the chains stand in the user's history (or in the question).

    `hallucinated`: share of quotations that stand in neither; None where no chain quotes anything.
    """
    by_id = {example.id: example for example in examples}
    quoted = in_history = in_question = 0
    for row in rows:
        example = by_id[row.id]
        history, question = sources(history_texts(example)), sources([example.input, *example.fields.values()])
        for quotation in quotations(row.completion.partition("</think>")[0]):
            quoted += 1
            if stands_in(quotation, history):
                in_history += 1
            elif stands_in(quotation, question):
                in_question += 1
    return {
        "quotations": quoted,
        "in_history": in_history,
        "in_question": in_question,
        "hallucinated": (quoted - in_history - in_question) / quoted if quoted else None,
    }


def _folded(text: str) -> str:
    return " ".join(text.lower().split()).strip(" .…,;:")


def by_history_length(
    rows: Sequence[Prediction], reference: Sequence[Prediction], examples: Sequence[Example], resamples: int = 2000
) -> list[dict[str, Any]]:
    """Cold start: mean score of both systems and their difference, by number of history items."""
    _same_questions(rows, reference)
    length = {example.id: len(example.profile) for example in examples}
    found = []
    for i, low in enumerate(HISTORY_BINS):
        high = HISTORY_BINS[i + 1] if i + 1 < len(HISTORY_BINS) else None
        picked = [
            (a, b)
            for a, b in zip(rows, reference, strict=True)
            if low <= length[a.id] and (high is None or length[a.id] < high)
        ]
        if not picked:
            continue
        scores, others = [a.correctness for a, _ in picked], [b.correctness for _, b in picked]
        users = [a.user_id for a, _ in picked]
        found.append(
            {
                "items": f"{low}+" if high is None else str(low) if high == low + 1 else f"{low}-{high - 1}",
                "n": len(picked),
                "score": sum(scores) / len(scores),
                "reference": sum(others) / len(others),
                "difference": paired_bootstrap(scores, others, users, resamples).as_dict(),
            }
        )
    return found


def by_seen_user(
    rows: Sequence[Prediction], reference: Sequence[Prediction], trained_on: set[str], resamples: int = 2000
) -> dict[str, Any]:
    """The difference between two systems for users that were in training and for those that were not."""
    _same_questions(rows, reference)
    found = {}
    for name, inside in (("seen", True), ("unseen", False)):
        picked = [(a, b) for a, b in zip(rows, reference, strict=True) if (a.user_id in trained_on) == inside]
        if picked:
            difference = paired_bootstrap(
                [a.correctness for a, _ in picked],
                [b.correctness for _, b in picked],
                [a.user_id for a, _ in picked],
                resamples,
            )
            found[name] = {"n": len(picked), "difference": difference.as_dict()}
    return found


def who_loses(rows: Sequence[Prediction], reference: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Users whose mean score fell against `reference`, the heaviest loss first, with the cases that fell."""
    _same_questions(rows, reference)
    changes: dict[str, list[tuple[float, str]]] = {}
    for a, b in zip(rows, reference, strict=True):
        changes.setdefault(a.user_id, []).append((a.correctness - b.correctness, a.id))
    losers = [
        {
            "user_id": user,
            "change": sum(change for change, _ in own) / len(own),
            "n": len(own),
            "cases": [case for change, case in sorted(own) if change < 0],
        }
        for user, own in changes.items()
        if sum(change for change, _ in own) < -1e-12
    ]
    return sorted(losers, key=lambda row: (row["change"], row["user_id"]))


def _same_questions(rows: Sequence[Prediction], others: Sequence[Prediction]) -> None:
    if [row.id for row in rows] != [row.id for row in others]:
        raise ValueError("both systems must answer the same questions in the same order")
