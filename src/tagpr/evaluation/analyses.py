"""Beyond "is it better": over-use of the profile, counterfactuals, evidence, cold start, who loses; and their file.

`profile_use` works on predictions of the same questions with another user's history, with none, with exchanged labels
(`tagpr.evaluation.questions` and `exchange_labels` make these). No model is loaded here.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter

from tagpr.evaluation.breakdown import Loser, Subset, paired
from tagpr.evaluation.evidence import Evidence
from tagpr.evaluation.interventions import ChainTests
from tagpr.evaluation.predictions import Prediction
from tagpr.evaluation.results import HistoryBin, Results, read_typed
from tagpr.files import write_json
from tagpr.statistics import STANDARD, Bootstrap, Interval, mean_interval, paired_bootstrap
from tagpr.tasks.answers import normalise_answer
from tagpr.tasks.types import Example, Interaction, Kind, Task


@dataclass(frozen=True)
class ProfileUse:
    """How answers and quality move when the history is another one."""

    n: int
    moved: Interval  # share of answers that differ
    quality: Interval  # correctness with the changed history minus that with the user's own


@dataclass(frozen=True)
class TaskAnalyses:
    """The questions beyond the paper, of one task. Final is compared with Base."""

    profile_use: Mapping[str, Mapping[str, ProfileUse]]  # [system][other, none or exchanged]
    evidence: Mapping[str, Evidence]  # by system
    chain: Mapping[str, ChainTests] = field(default_factory=dict)  # by system
    by_history_length: tuple[HistoryBin, ...] = ()
    by_seen_user: Mapping[str, Subset] = field(default_factory=dict)  # seen, unseen
    who_loses: tuple[Loser, ...] = ()


@dataclass(frozen=True)
class Analyses:
    """`analyses/analyses.json` of a run: what its systems were given after the evaluation."""

    practitioner: Mapping[str, TaskAnalyses] = field(default_factory=dict)  # by task
    profile_length: Mapping[str, Results] = field(default_factory=dict)  # by number of history items shown (fig. 4)
    retriever: Mapping[str, Results] = field(default_factory=dict)  # by retriever (fig. 4)
    rewards: Mapping[str, Results] = field(default_factory=dict)  # by "alpha, beta, gamma" (table 6)

    @classmethod
    def read(cls, path: Path) -> "Analyses":
        """Read the file; one without any part if it is not there. Raises RunError if it is damaged."""
        return read_typed(_ANALYSES, path) if path.is_file() else cls()

    def write(self, path: Path) -> None:
        """Write the file, atomically."""
        write_json(path, _ANALYSES.dump_python(self, mode="json"))


_ANALYSES = TypeAdapter(Analyses)


def profile_use(
    task: Task, own: Sequence[Prediction], changed: Sequence[Prediction], draws: Bootstrap = STANDARD
) -> ProfileUse:
    """own, changed: answers to the same questions in the same order, with the user's own and with a changed history.

    A model that over-uses profiles moves much and loses much; one that ignores them does not move.
    """
    pairs = paired(own, changed)
    users = [row.user_id for row in own]
    moved = [float(normalise_answer(task, a.answer) != normalise_answer(task, b.answer)) for a, b in pairs]
    quality = [b.correctness for _, b in pairs], [a.correctness for a, _ in pairs]
    return ProfileUse(
        len(moved),
        mean_interval(moved, users, draws),
        paired_bootstrap(*quality, users, draws),
    )


def has_labels(task: Task) -> bool:
    """Whether the task's history has labels that can be exchanged."""
    return task.kind is not Kind.TEXT and task.output_field is not None and len(task.labels) >= 2


def exchange_labels(task: Task, examples: Sequence[Example], seed: int) -> list[Example]:
    """The counterfactual questions: every history with its labels exchanged by one random permutation per user.

    A model that reads the history changes its answer along; one that goes by the text does not. Raises ValueError for a
    task whose history has no labels.
    """
    if not has_labels(task):
        raise ValueError(f"task {task.name}: its history has no labels to exchange")
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


def _relabelled(item: Interaction, field_name: str, mapping: Mapping[str, str]) -> Interaction:
    label = item.fields.get(field_name, "")
    return replace(item, fields={**item.fields, field_name: mapping.get(label, label)})
