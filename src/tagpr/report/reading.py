"""`RunData`: what the report shows, read from a run folder. A missing or older file leaves its part empty, no more.

Reads only; nothing is computed here and no model is loaded.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tagpr.errors import RunError, TagPRError
from tagpr.evaluation.analyses import Analyses
from tagpr.evaluation.predictions import Prediction, read_predictions
from tagpr.evaluation.results import Results
from tagpr.files import read_json, read_jsonl
from tagpr.runs.layout import RunFolder
from tagpr.tasks.cards import read_tasks
from tagpr.tasks.types import Example, Task

logger = logging.getLogger(__name__)
T = TypeVar("T")
Json = dict[str, Any]
"""One of our own JSON files, or one of its lines, as read."""
D = TypeVar("D")

STAGES = ("data", "chains", "sft", "labels", "prmu", "guided", "exploratory", "evaluate")
SYSTEMS = ("base", "labels", "sft", "guided", "final", "final-other-history")
"""Order in tables and charts; others follow by name."""


@dataclass(frozen=True)
class RunData:
    """One run's files, as far as they are there."""

    name: str
    tasks: dict[str, Task]
    heldout: dict[str, Sequence[Example]]
    results: Results | None  # evaluate/results.json
    predictions: dict[str, dict[str, list[Prediction]]]  # by task, then by system
    logs: dict[str, list[Json]]  # by stage
    funnel: Json
    diagnosis: Json
    manifests: dict[str, Json]  # by stage
    vocabulary: list[tuple[str, str]]  # (name, definition)
    analyses: Analyses = field(default_factory=Analyses)
    zero_shot: frozenset[str] = frozenset()  # tasks that were never trained on
    comparison: Results | None = None  # compare/results.json

    @property
    def systems(self) -> list[str]:
        """Every system that answered anything, in the report's order."""
        found = {system for by_system in self.predictions.values() for system in by_system}
        return [name for name in SYSTEMS if name in found] + sorted(found - set(SYSTEMS))

    def answers(self, system: str) -> list[Prediction]:
        """All answers of a system, task after task."""
        return [row for by_system in self.predictions.values() for row in by_system.get(system, [])]

    @property
    def last_trained(self) -> str | None:
        """The system of the latest training stage that answered anything."""
        return next((name for name in ("final", "guided", "sft") if self.answers(name)), None)


def read_run(run: Path) -> RunData:
    """Read a run folder. Raises RunError if the folder does not exist or holds nothing of a run."""
    if not run.is_dir():
        raise RunError(f"{run}: no such run folder; run `tagpr run RECIPE` first or check the path")
    if not any((run / stage).is_dir() for stage in STAGES):
        raise RunError(f"{run}: holds no stage of a run (data, chains, ..., evaluate); give a folder such as runs/NAME")
    tasks = _optional(run / "data" / "tasks.json", read_tasks, {})
    predictions: dict[str, dict[str, list[Prediction]]] = {name: {} for name in tasks}
    for path in sorted((run / "evaluate" / "predictions").glob("*/*.jsonl")):
        predictions.setdefault(path.stem, {})[path.parent.name] = _optional(path, read_predictions, [])
    ordered = {
        task: {name: by[name] for name in sorted(by, key=_system_order) if by[name]} for task, by in predictions.items()
    }
    return RunData(
        name=run.resolve().name,
        tasks=tasks,
        heldout={name: _optional(run / "data" / name / "heldout.jsonl", _examples, []) for name in tasks},
        results=_optional(run / "evaluate" / "results.json", Results.read, None),
        predictions=ordered,
        logs={stage: _optional(run / stage / "log.jsonl", _rows, []) for stage in STAGES},
        funnel=_optional(run / "chains" / "funnel.json", _object, {}),
        diagnosis=_optional(run / "prmu" / "diagnosis.json", _object, {}),
        manifests={stage: _optional(run / stage / "manifest.json", _object, {}) for stage in STAGES},
        vocabulary=_vocabulary(run),
        zero_shot=frozenset(name for name in tasks if _is_empty(run / "data" / name / "train.jsonl")),
        analyses=_optional(run / "analyses" / "analyses.json", Analyses.read, Analyses()),
        comparison=_optional(run / "compare" / "results.json", Results.read, None),
    )


def _is_empty(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0


def _system_order(name: str) -> tuple[int, str]:
    return (SYSTEMS.index(name), "") if name in SYSTEMS else (len(SYSTEMS), name)


def _optional(path: Path, read: Callable[[Path], T], default: D) -> T | D:
    """What `read` makes of the file; `default` if it is missing, or damaged (which is logged)."""
    if not path.exists():
        return default
    try:
        return read(path)
    except (TagPRError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("%s: left out of the report (%s)", path, " ".join(str(error).split())[:200])
        return default


def _object(path: Path) -> Json:
    value = read_json(path)
    if not isinstance(value, dict):
        raise TypeError("is no JSON object")
    return value


def _rows(path: Path) -> list[Json]:
    rows = read_jsonl(path)
    if not all(isinstance(row, dict) for row in rows):
        raise TypeError("not every line is a JSON object")
    return rows


def _examples(path: Path) -> Sequence[Example]:
    from tagpr.data import read_examples

    return read_examples(path)


def _vocabulary(run: Path) -> list[tuple[str, str]]:
    from tagpr.chains.vocabulary import load_vocabulary

    taught = RunFolder(run).taught_vocabulary
    path = taught if taught.is_file() else RunFolder(run).vocabulary
    try:
        vocabulary = load_vocabulary(path if path.is_file() else None)
    except TagPRError as error:
        logger.warning("%s: %s", path, error)
        vocabulary = load_vocabulary(None)
    return [(tag.name, tag.definition) for tag in vocabulary]
