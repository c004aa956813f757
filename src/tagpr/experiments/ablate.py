"""The paper's table 4: one variant of a run per reward model, with equal data, chains, SFT, steps and seed."""

from collections.abc import Mapping

from tagpr.evaluation.predictions import read_predictions
from tagpr.evaluation.results import Results
from tagpr.evaluation.scoring import SystemAnswers, score
from tagpr.experiments.variants import REWARD_MODELS
from tagpr.pipeline import make, make_variant
from tagpr.runs import Run


def ablate_prmu(run: Run) -> Results:
    """Train and evaluate the rows of table 4 as far as they are missing; write `ablations/prmu.json`.

    The rows are systems, compared with "w/o RM". Killed, it continues. Raises RunError if the run has no SFT model.
    """
    run.require(*next(iter(REWARD_MODELS.values())).needed(run))
    runs = {}
    for label, variant in REWARD_MODELS.items():
        runs[label] = make_variant(run, variant)
        make(runs[label], "evaluate")
    results = final_results(run, runs)
    results.write(run.folder.ablations / "prmu.json")
    return results


def final_results(run: Run, rows: Mapping[str, Run]) -> Results:
    """The final system of each of these runs as a row, compared with the first, on the data of `run`."""
    tasks = {name: splits.task for name, splits in run.data.items()}
    systems = [
        SystemAnswers(
            label,
            predictions={
                name: read_predictions(changed.folder.predictions / "final" / f"{name}.jsonl") for name in tasks
            },
        )
        for label, changed in rows.items()
    ]
    return score(tasks, systems, (next(iter(rows)),), run.recipe.evaluate, run.seed)
