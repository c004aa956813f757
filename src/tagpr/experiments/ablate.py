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
from tagpr.evaluation.scoring import score_task
from tagpr.files import link_tree, read_json, write_json
from tagpr.pipeline import Workspace, run_recipe
from tagpr.recipe import find_recipe, load_recipe
from tagpr.report.tables.terminal import shown_metrics
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


def ablate_prmu(
    recipe: str, overrides: Sequence[str] = (), runs: Path = Path("runs"), quiet: bool = False
) -> dict[str, Any]:
    """Train and evaluate the rows of Table 4; print the table and write `runs/NAME/ablations/prmu.json`.

    Returns {"tasks": {TASK: block}} in the schema of metrics.json, rows as systems, `difference_to_base` being the
    difference to "w/o RM". Raises RunError where the run itself has no SFT model yet.
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
    write_json(runs / name / "ablations" / "prmu.json", table)
    if not quiet:
        print_table(table)
    return table


def prmu_table(folders: dict[str, Path], seed: int) -> dict[str, Any]:
    """Scores of each row's final system with paired bootstrap intervals of the differences to the first row."""
    first = next(iter(folders))
    tasks = {}
    for card in read_json(folders[first] / "data" / "tasks.json"):
        task = Task.model_validate(card)
        rows = {
            "base" if label == first else label: read_predictions(
                folder / "evaluate" / "predictions" / "final" / f"{task.name}.jsonl"
            )
            for label, folder in folders.items()
        }
        block = score_task(task, rows, seed=seed)
        for key in ("systems", "intervals"):
            block[key] = {first if name == "base" else name: value for name, value in block[key].items()}
        tasks[task.name] = block
    return {"reference": first, "tasks": tasks}


def print_table(table: dict[str, Any]) -> None:
    """Table 4: one row a setting; the main metric and its difference to the first row with 95% intervals."""
    from rich.console import Console
    from rich.table import Table

    for name, block in table["tasks"].items():
        main = block["metric"]
        metrics = shown_metrics(block["systems"])
        shown = Table(title=f"{name} ({block['n']} held-out examples of {block['users']} users)", title_justify="left")
        shown.add_column("reward model", no_wrap=True)
        for metric in metrics:
            shown.add_column(metric, justify="right")
        shown.add_column(f"{main} - {table['reference']}, 95%", justify="right")
        for system, row in block["systems"].items():
            cells = []
            for metric in metrics:
                interval = block["intervals"][system].get(metric) if metric == main else None
                text = f"{row[metric]:.3f}" if metric in row else ""
                cells.append(f"{text} [{interval['low']:.3f}, {interval['high']:.3f}]" if interval else text)
            change = block["difference_to_base"].get(system, {}).get(main)
            said = f"{change['mean']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]" if change else ""
            shown.add_row(system, *cells, said)
        Console().print(shown)


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
    from rich.table import Table

    shown = Table(title="held-out pairs won, 95% interval", title_justify="left")
    for column in ("pairs", "n", "right user", "shuffled", "generic"):
        shown.add_column(column)

    def cell(value: dict[str, Any]) -> str:
        return f"{value['accuracy']:.1%} [{value['low']:.1%}, {value['high']:.1%}]"

    for split in ("seen", "unseen"):
        for kind, block in figures[split].items():
            cells = [cell(block[who]) for who in ("right", "shuffled", "generic")]
            shown.add_row(f"{kind}, {split} users", str(block["right"]["n"]), *cells)
    for bin_name, value in figures["by_history_length"].items():
        shown.add_row(f"all, history of {bin_name}", str(value["n"]), cell(value), "", "")
    console = Console()
    console.print(shown)
    console.print(f"calibration error {figures['calibration']['expected_calibration_error']:.3f}", highlight=False)
    console.print(f"correlation of reward and length {figures['length_correlation']:+.2f}", highlight=False)
    console.print(figures["words"], highlight=False)
