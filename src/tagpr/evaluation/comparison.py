"""`compare_systems`: the scores of all systems that ran, as one JSON-able value that tables and report are made from.

{"systems": [{"name", "system", "group", "reasons", "failure", "cost": {...}, "tasks": {TASK: {"cost", "notes"}}}],
 "tasks": {TASK: {"n", "users", "metric", "kind", "metrics": [...], "systems": {NAME: {METRIC: value}},
                  "intervals": {NAME: {METRIC: {...}}}, "differences": {REFERENCE: {NAME: {METRIC: {...}}}},
                  "published": {NAME: {METRIC: value}}, "impossible": [NAME, ...]}},
 "published_source": words}
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tagpr.evaluation.published import impossible, published
from tagpr.evaluation.scoring import Scores
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.evaluation.systems import SystemRun
from tagpr.systems.cost import Cost
from tagpr.systems.registry import SANITY, SYSTEMS
from tagpr.tasks.types import Task

REFERENCES = ("rag-r", "tagpr")
"""Systems that every other one is compared with: Base and TagPR."""
GROUPS = ("No model", "Previous methods", "API models", "Own systems", "TagPR")


def group_of(system: str) -> str:
    """Which part of the table a system stands in."""
    if system in SANITY:
        return "No model"
    if system == "tagpr" or system.startswith("w/o-"):
        return "TagPR"
    if system.startswith("api:"):
        return "API models"
    return "Previous methods" if system in SYSTEMS else "Own systems"


def compare_systems(
    tasks: Mapping[str, Task], runs: Sequence[SystemRun], settings: EvaluationSettings, seed: int = 0
) -> dict[str, Any]:
    """Score every system on every task it answered, with paired intervals against Base and TagPR."""
    order = {name: i for i, name in enumerate(SYSTEMS)}
    ordered = sorted(runs, key=lambda run: (GROUPS.index(group_of(run.system)), order.get(run.system, 0)))
    blocks = {}
    for name, task in tasks.items():
        predictions = {run.name: run.predictions[name] for run in ordered if name in run.predictions}
        if not predictions:
            continue
        scores = Scores(task, predictions, {}, settings, seed)
        references = {run.system: run.name for run in reversed(ordered) if run.system in REFERENCES}
        known = published()["systems"]
        printed = {run.name: known[_known(run.system)].get(name) for run in ordered if _known(run.system) in known}
        blocks[name] = scores.about() | {
            "metrics": list(task.metrics[:2]),  # the two columns of a task in the paper's table
            "systems": scores.points,
            "intervals": {row: scores.intervals(row) for row in predictions},
            "differences": {
                row: {other: scores.difference(other, row) for other in predictions if other != row}
                for system in REFERENCES
                if (row := references.get(system)) in predictions
            },
            "published": {row: values for row, values in printed.items() if values},
            "impossible": [row for row, values in printed.items() if values and impossible(values)],
        }
    return {
        "systems": [_about(run) for run in ordered],
        "tasks": blocks,
        "published_source": published()["source"],
    }


def _known(system: str) -> str:
    """The published table's name of a system; API models go by their name without the maker's."""
    return f"api:{system[4:].rpartition('/')[2].lower()}" if system.startswith("api:") else system


def _about(run: SystemRun) -> dict[str, Any]:
    total = Cost(**asdict(run.fit))
    for cost in run.answer.values():
        total.add(cost)
    return {
        "name": run.name,
        "system": run.system,
        "group": group_of(run.system),
        "reasons": run.reasons,
        "failure": run.failure,
        "fit": asdict(run.fit),
        "cost": asdict(total),
        "tasks": {name: {"cost": asdict(cost), "notes": run.notes.get(name, {})} for name, cost in run.answer.items()},
    }
