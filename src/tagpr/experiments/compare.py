"""`tagpr compare RECIPE`: every system of the recipe's `systems:` list on the same held-out examples, and the table.

Writes `runs/NAME/compare/`: `results.json` (everything), `table.md`, `table.tex`, `table.csv`, a folder a system
(`tagpr.evaluation.systems`) and `report/index.html`. Stages of the run that a system needs are made when it asks for
them. This file only brings the run and the systems together.
"""

import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tagpr import __version__
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.data.split import Splits
from tagpr.errors import RecipeError
from tagpr.evaluation.groups import table_order
from tagpr.evaluation.predict import weights_key
from tagpr.evaluation.results import Results
from tagpr.evaluation.scoring import SystemAnswers, score
from tagpr.evaluation.systems import SystemRunner
from tagpr.experiments.sweep import link_tree
from tagpr.files import read_json
from tagpr.memory import keep_freed_memory
from tagpr.pipeline import Workspace, run_recipe
from tagpr.recipe import Recipe, find_recipe, load_recipe
from tagpr.report import write_report
from tagpr.report.tables.files import write_tables
from tagpr.runs.progress import stage_progress
from tagpr.runs.stage import Stage, locked, read_manifest, run_stage
from tagpr.systems.context import Context, Decoding, Trained
from tagpr.systems.cost import Cost
from tagpr.systems.protocol import System
from tagpr.systems.registry import load_system, read_options

STAGES = {
    "tagpr": ("data", "chains", "sft", "prmu", "guided", "exploratory"),
    "w/o-exploratory": ("data", "chains", "sft", "prmu", "guided"),
    "w/o-rl": ("data", "chains", "sft"),
}
"""Variants that are stages of the run itself, up to their last one."""
OVERRIDES = {"w/o-tag": "rewards.beta=0", "w/o-reward": "rewards.gamma=0"}
"""Variants that are a run of their own with a changed reward; earlier stages are shared."""

REFERENCES = ("rag-r", "tagpr")
"""Systems that every other one is compared with: Base and TagPR."""


def compare(
    recipe: str,
    overrides: Sequence[str] = (),
    runs: Path = Path("runs"),
    quiet: bool = False,
    as_json: bool = False,
) -> Results:
    """Fit and ask what is missing, score, write the tables and the report; returns the results.

    Raises RecipeError where `systems:` is empty or names what there is not; a system that fails only fails its row.
    """
    loaded = load_recipe(recipe, overrides)
    rows = _rows(loaded.systems, find_recipe(recipe).parent)
    keep_freed_memory()
    stages = _Stages(recipe, overrides, runs, loaded.name)
    stages.make("data")
    if loaded.chains.vocabulary != "paper":
        stages.make("data", "chains")  # the tags that every reasoning prompt names
    workspace = Workspace(loaded, runs / loaded.name, find_recipe(recipe).parent)
    out = workspace.folder / "compare"
    limit = loaded.evaluate.limit
    data = {name: replace(splits, heldout=splits.heldout[:limit]) for name, splits in workspace.data.items()}
    with locked(out), stage_progress("compare", quiet) as progress:
        runner = SystemRunner(
            out / "systems",
            _context(workspace),
            data,
            loaded.model_dump(mode="json"),
            _common(workspace),
            loaded.evaluate.chunk,
            progress,
        )
        found = []
        try:
            for name, spec, kind, options in rows:
                found.append(_run(runner, stages, workspace, name, spec, kind, options))
                comparison, table = _write(out, data, found, loaded)  # what is there is there, should a later one hang
                if not quiet:
                    sys.stderr.write(f"{name:<20} {found[-1].failure or 'done'}\n")
        except KeyboardInterrupt:
            sys.stderr.write("stopped; the same command continues from here\n")
            raise SystemExit(130) from None
        page = write_report(workspace.folder, out / "report")
    if as_json:
        sys.stdout.write(comparison.as_json() + "\n")
    else:
        sys.stdout.write(f"{table}\ntable: {out / 'table.md'}\nreport: {page}\n")
    return comparison


def _write(
    out: Path, data: Mapping[str, Splits], found: Sequence[SystemAnswers], recipe: Recipe
) -> tuple[Results, str]:
    """Score what has run, in the table's order; write results.json and the tables. Returns both."""
    tasks = {name: splits.task for name, splits in data.items()}
    heldout = {name: splits.heldout for name, splits in data.items()}
    ordered = sorted(found, key=lambda answers: table_order(answers.system))
    references = [answers.name for spec in REFERENCES for answers in ordered if answers.system == spec]
    results = score(tasks, ordered, references, recipe.evaluate, recipe.seed, heldout)
    results.write(out / "results.json")
    return results, write_tables(results, out)


def _rows(systems: Sequence[Any], folder: Path) -> list[tuple[str, str, Any, Any]]:
    """(name, spec, class, options) of every entry, checked before anything runs."""
    if not systems:
        raise RecipeError("systems: the recipe lists none; add e.g. systems: [rag-r, tagpr]")
    names = Counter(entry.name for entry in systems)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice:
        raise RecipeError(f"systems: '{twice}' stands twice; give one of them a label of its own")
    rows = []
    for entry in systems:
        kind = load_system(entry.system, folder)
        rows.append((entry.name, entry.system, kind, read_options(entry.system, kind, entry.options)))
    return rows


def _context(workspace: Workspace) -> Context:
    recipe, evaluate = workspace.recipe, workspace.recipe.evaluate
    written = workspace.folder / "chains" / "vocabulary.yaml"
    return Context(
        model=workspace.model,
        tasks=workspace.tasks,
        folder=Path(),
        vocabulary=load_vocabulary(written if recipe.chains.vocabulary != "paper" else None),
        profile=recipe.profile,
        prompt=recipe.prompt,
        decoding=Decoding(evaluate.max_new_tokens, evaluate.answer_tokens, evaluate.temperature, evaluate.rows),
        sft=recipe.sft,
        seed=recipe.seed,
    )


def _run(
    runner: SystemRunner,
    stages: "_Stages",
    workspace: Workspace,
    name: str,
    spec: str,
    kind: type[System[Any]],
    options: Any,
) -> SystemAnswers:
    """Make what the system needs of the run, then run it."""
    try:
        trained = {variant: stages.trained(workspace, variant) for variant in kind.variants}
        chains = stages.chains(workspace) if kind.learns_chains else None
    except Exception as error:  # the other rows stand
        return runner.failed(SystemAnswers(name, spec, kind.reasons), error)
    return runner.run(name, spec, kind, options, trained, chains)


def _common(workspace: Workspace) -> dict[str, Any]:
    """What every system's fit depends on."""
    recipe = workspace.recipe
    manifest = read_manifest(workspace.folder / "data")
    assert manifest is not None
    return {
        "tagpr": __version__,
        "model": weights_key(workspace.model),
        "data": manifest["hash"],
        "profile": recipe.profile.model_dump(mode="json"),
        "prompt": recipe.prompt.model_dump(mode="json"),
        "vocabulary": str(recipe.chains.vocabulary),
        "seed": recipe.seed,
    }


class _Stages:
    """Makes the stages of a run that systems ask for, through the pipeline."""

    def __init__(self, recipe: str, overrides: Sequence[str], runs: Path, name: str) -> None:
        self.recipe, self.overrides, self.runs, self.name = recipe, list(overrides), runs, name

    def make(self, *stages: str, overrides: Sequence[str] = ()) -> None:
        """Make these stages where they are missing or out of date."""
        for stage in stages:
            run_recipe(self.recipe, [*self.overrides, *overrides], self.runs, only=stage, quiet=True)

    def chains(self, workspace: Workspace) -> Mapping[tuple[str, str], Sequence[str]]:
        """The kept chains of stage 0, by task name and example id."""
        import pyarrow.parquet as parquet

        self.make("chains")
        found: dict[tuple[str, str], list[str]] = {}
        for row in parquet.read_table(workspace.folder / "chains" / "chains.parquet").to_pylist():
            found.setdefault((row["task"], row["example_id"]), []).append(row["completion"])
        return found

    def trained(self, workspace: Workspace, variant: str) -> Trained:
        """Checkpoint folder of a TagPR variant and the cost of all stages it takes."""
        if variant in STAGES:
            self.make(*STAGES[variant])
            used = [workspace.folder / stage for stage in STAGES[variant]]
            return Trained(used[-1] / "model", _cost(used))
        folder = self.runs / f"{self.name}-{variant.replace('/', '')}"
        shared = ("data", "chains", "sft") if variant == "w/o-reward" else ("data", "chains", "sft", "prmu")
        self.make(*shared)
        for stage in shared:
            if variant == "w/o-sft" and stage == "sft":
                continue  # nothing there may start from it; PRMU's pairs are still those of the run
            if _hash(folder / stage) != _hash(workspace.folder / stage):
                shutil.rmtree(folder / stage, ignore_errors=True)  # of the run as it was before
                link_tree(workspace.folder / stage, folder / stage)
        if variant == "w/o-sft":
            self._without_sft(workspace, folder)
        else:
            changes = [f"name={folder.name}", OVERRIDES[variant]]
            self.make("guided", "exploratory", overrides=changes)
        used = [workspace.folder / stage for stage in shared]
        used += [folder / "guided", folder / "exploratory"]
        return Trained(used[-1] / "model", _cost(used))

    def _without_sft(self, workspace: Workspace, folder: Path) -> None:
        """Both RL stages from the untrained model, with the run's own PRMU."""
        recipe = workspace.recipe
        values = recipe.model_dump(mode="json")
        own = Workspace(recipe, folder, workspace.recipe_folder)

        def part(*keys: str) -> dict[str, Any]:
            return {key: values[key] for key in ("model", "profile", "prompt", "rewards", *keys)}

        stages = (
            Stage(
                "guided",
                ("data", "prmu"),
                part("guided"),
                lambda out, progress: own.rl("guided", own.model, own.prmu_score(), out, progress),
            ),
            Stage("exploratory", ("data", "guided"), part("exploratory"), own.exploratory),
        )
        with locked(folder), stage_progress("w/o-sft", True) as progress:
            for stage in stages:
                run_stage(folder, stage, recipe.seed, progress)


def _hash(folder: Path) -> str | None:
    manifest = read_manifest(folder)
    return None if manifest is None else manifest["hash"]


def _cost(stages: Sequence[Path]) -> Cost:
    """Sum of what the stage folders' manifests say; the policy's parameters count once."""
    cost, policy = Cost(), 0
    for stage in stages:
        manifest = read_json(stage / "manifest.json")
        figures, measured = manifest["figures"], manifest["measured"]
        cost.seconds += measured["seconds"]
        cost.cpu_seconds += measured.get("cpu_seconds", 0.0)
        cost.trained_tokens += figures.get("trained_tokens", 0)
        cost.completion_tokens += figures.get("completion_tokens", 0)
        if stage.name == "prmu":
            cost.trained_parameters += figures.get("trained_parameters", 0)
        else:
            policy = max(policy, figures.get("trained_parameters", 0))
    cost.trained_parameters += policy
    return cost
