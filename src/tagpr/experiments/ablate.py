"""`tagpr ablate prmu RECIPE`: the paper's Table 4. `tagpr prmu diagnose RECIPE`: a finished run's reward model.

An ablation trains one run per row with equal data, chains, SFT, steps and seed (`runs/NAME-prmu-ROW`), sharing the
stages that do not depend on the reward model; killed, it continues. It changes settings only: what a row does is in the
stages themselves.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tagpr.errors import RunError
from tagpr.evaluation.predictions import read_predictions
from tagpr.evaluation.results import Results
from tagpr.evaluation.scoring import SystemAnswers, score
from tagpr.files import link_tree, read_json
from tagpr.pipeline import Workspace, run_recipe
from tagpr.recipe import find_recipe, load_recipe
from tagpr.report.tables.diagnosis import diagnosis_table
from tagpr.report.tables.terminal import print_results, to_terminal
from tagpr.runs.stage import read_manifest
from tagpr.tasks.types import Task

PRMU_ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "no-rm": ("w/o RM", ("rewards.gamma=0",)),
    "untrained": ("Untrained RM", ("prmu.epochs=0",)),
    "no-users": ("PRMU w/o UE", ("prmu.user_option=none",)),
    "prmu": ("PRMU", ()),
}
"""Row -> its name in the paper's Table 4, and the overrides that make it."""
SHARED = ("data", "chains", "sft")
"""Stages that do not depend on the reward model."""


def ablate_prmu(recipe: str, overrides: Sequence[str] = (), runs: Path = Path("runs"), quiet: bool = False) -> Results:
    """Train and evaluate the rows of Table 4; print the table and write `runs/NAME/ablations/prmu.json`.

    Returns the rows as systems, with their differences to "w/o RM". Raises RunError if the run itself has no SFT model.
    """
    name = load_recipe(recipe, overrides).name
    for stage in SHARED:
        if read_manifest(runs / name / stage) is None:
            raise RunError(f"{runs / name}: stage '{stage}' has not been run; run `tagpr run {recipe}` first")
    folders = {}
    for row, (label, changes) in PRMU_ROWS.items():
        folders[label] = runs / f"{name}-prmu-{row}"
        for stage in SHARED:
            if not (folders[label] / stage).exists():
                link_tree(runs / name / stage, folders[label] / stage)
        sys.stderr.write(f"{label}\n")
        run_recipe(recipe, [*overrides, f"name={name}-prmu-{row}", *changes], runs, quiet=True)
    table = prmu_table(folders, load_recipe(recipe, overrides).seed)
    table.write(runs / name / "ablations" / "prmu.json")
    if not quiet:
        print_results(table, "reward model")
    return table


def prmu_table(folders: dict[str, Path], seed: int) -> Results:
    """Scores of each row's final system with paired bootstrap intervals of the differences to the first row."""
    first = next(iter(folders))
    tasks = [Task.model_validate(card) for card in read_json(folders[first] / "data" / "tasks.json")]
    rows = [
        SystemAnswers(
            label,
            predictions={
                task.name: read_predictions(folder / "evaluate" / "predictions" / "final" / f"{task.name}.jsonl")
                for task in tasks
            },
        )
        for label, folder in folders.items()
    ]
    return score({task.name: task for task in tasks}, rows, (first,), seed=seed)


def diagnose_run(
    recipe: str, overrides: Sequence[str] = (), runs: Path = Path("runs"), as_json: bool = False
) -> dict[str, Any]:
    """Diagnose a finished run's PRMU on its held-out pairs and print it; the figures of `prmu/diagnosis.json`.

    Raises RunError where the prmu stage has not been run.
    """
    from tagpr.prmu.data import read_pairs
    from tagpr.prmu.diagnose import diagnose
    from tagpr.prmu.score import PRMU
    from tagpr.prmu.stage import histories_of

    loaded = load_recipe(recipe, overrides)
    folder = runs / loaded.name
    if read_manifest(folder / "prmu") is None:
        raise RunError(f"{folder}: stage 'prmu' has not been run; run `tagpr prmu {recipe}` first")
    workspace = Workspace(loaded, folder, find_recipe(recipe).parent)
    prmu = PRMU.from_pretrained(folder / "prmu" / "model")
    histories = None
    if prmu.model.history is not None:
        histories = histories_of(workspace.tasks, workspace.train, workspace.prompts)
    figures = diagnose(prmu, read_pairs(folder / "prmu" / "pairs.parquet"), loaded.seed, histories)
    if as_json:
        sys.stdout.write(json.dumps(figures, ensure_ascii=False) + "\n")
    else:
        print_diagnosis(figures)
    return figures


def print_diagnosis(figures: dict[str, Any]) -> None:
    """The diagnosis as a table, and what it says in words."""
    from rich.console import Console

    console = Console()
    console.print(to_terminal(diagnosis_table(figures)))
    console.print(f"calibration error {figures['calibration']['expected_calibration_error']:.3f}", highlight=False)
    console.print(f"correlation of reward and length {figures['length_correlation']:+.2f}", highlight=False)
    console.print(figures["words"], highlight=False)
