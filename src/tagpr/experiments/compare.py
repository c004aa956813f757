"""Every system of the recipe's `systems:` list on the same held-out examples, and the paper's table of them.

Writes `runs/NAME/compare/`: `results.json` (everything), `table.md`, `table.tex`, `table.csv`, a folder per system
(`tagpr.evaluation.runner`) and `report/index.html`. What a system needs of the run (variants, chains) is made before
it runs. This file only brings the run and the systems together.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tagpr import __version__
from tagpr.chains.dataset import completions_by_example, read_chains
from tagpr.data import Splits
from tagpr.errors import RecipeError
from tagpr.evaluation.groups import table_order
from tagpr.evaluation.judged import judge_answers
from tagpr.evaluation.results import Results
from tagpr.evaluation.runner import SystemRunner
from tagpr.evaluation.scoring import SystemAnswers, score
from tagpr.experiments.variants import VARIANTS, trained
from tagpr.files import weights_key
from tagpr.memory import keep_freed_memory
from tagpr.pipeline import make
from tagpr.report import write_report
from tagpr.report.tables.files import write_tables
from tagpr.runs import Run
from tagpr.runs.reads import prompt_files
from tagpr.runs.stage import locked
from tagpr.settings import Settings
from tagpr.systems.context import Chains
from tagpr.systems.protocol import NoOptions, System
from tagpr.systems.registry import NO_HISTORY, OPTION_BASELINES, load_system, read_options

logger = logging.getLogger(__name__)

REFERENCES = ("rag-r", "tagpr")
"""Systems that every other one is compared with: Base and TagPR."""


@dataclass(frozen=True)
class Row:
    """One entry of the recipe's list, checked."""

    name: str
    system: str  # as the recipe names it
    kind: type[System[Any]]
    options: Settings


@dataclass(frozen=True)
class Comparison:
    """The outcome of a comparison."""

    results: Results
    table: str  # the paper's table in Markdown
    page: Path  # the report


def compare(run: Run) -> Comparison:
    """Fit and run what is missing, score, write the tables and the report.

    The paper's tables 1, 2, 3 and 7: 2 and 3 are of sources with `zero_shot`, 7 of a run with `sft.checkpoint`.

    Raises RecipeError if `systems:` is empty or names what there is not; a system that fails only fails its row.
    """
    rows = read_rows(run)
    keep_freed_memory()
    make(run, "data")
    _ = run.judges  # a task that needs some and has none is said now
    if run.recipe.chains.vocabulary == "discover":
        make(run, "chains")  # every reasoning prompt names the tags
    out, limit = run.folder.compare, run.recipe.evaluate.limit
    data = {name: replace(splits, heldout=splits.heldout[:limit]) for name, splits in run.data.items()}
    with locked(out), run.show("compare") as progress:
        blocks = run.recipe.block(*type(run.recipe).model_fields)
        chunk = run.recipe.evaluate.chunk
        rows = [*rows, *baselines_of_leaks(rows, data)]
        runner = SystemRunner(out / "systems", run.context(), data, blocks, _common(run), chunk, progress, run.base)
        found: list[SystemAnswers] = []
        results, table = Results((), {}), ""
        for row in rows:
            found.append(_run(runner, run, row))
            results, table = _write(run, data, found)  # what is there is there, should a later one hang
            logger.info("%-20s %s", row.name, found[-1].failure or "done")
        return Comparison(results, table, write_report(run.folder.path, out / "report"))


def read_rows(run: Run) -> list[Row]:
    """The recipe's list, checked before anything runs."""
    systems = run.recipe.systems
    if not systems:
        raise RecipeError("systems: the recipe lists none; add e.g. systems: [rag-r, tagpr]")
    duplicate = next((name for name, count in Counter(entry.name for entry in systems).items() if count > 1), None)
    if duplicate:
        raise RecipeError(f"systems: duplicate '{duplicate}'; give one of them its own label")
    rows = []
    for entry in systems:
        kind = load_system(entry.system, run.base)
        options = read_options(entry.system, kind, entry.options, run.base)
        rows.append(Row(entry.name, entry.system, kind, options))
    return rows


def baselines_of_leaks(rows: Sequence[Row], data: Mapping[str, Splits]) -> list[Row]:
    """The baselines that read nobody, unless they are listed: those that see only the options if any example has its
    options in its fields, and the model without the history if any task's card says that it leaks.
    """
    wanted: list[str] = []
    if any("option1" in example.fields for splits in data.values() for example in splits.heldout[:1]):
        wanted += OPTION_BASELINES
    if any(splits.task.leaks for splits in data.values()):
        wanted.append(NO_HISTORY)
    missing = [name for name in wanted if name not in {row.system for row in rows}]
    return [Row(name, name, load_system(name), NoOptions()) for name in missing]


def _run(runner: SystemRunner, run: Run, row: Row) -> SystemAnswers:
    """Make what the system needs of the run, then run it."""
    try:
        made = {name: trained(run, VARIANTS[name]) for name in row.kind.variants}
        chains = _kept_chains(run) if row.kind.learns_chains else None
    except Exception as error:  # the other rows are complete
        return runner.failed(SystemAnswers(row.name, row.system, row.kind.reasons), error)
    return runner.run(row.name, row.system, row.kind, row.options, made, chains)


def _kept_chains(run: Run) -> Chains:
    make(run, "chains")
    return completions_by_example(read_chains(run.folder.stage("chains")))


def _write(run: Run, data: Mapping[str, Splits], found: Sequence[SystemAnswers]) -> tuple[Results, str]:
    """Score what has run, in the table's order; write results.json and the tables. Returns both."""
    tasks = {name: splits.task for name, splits in data.items()}
    heldout = {name: splits.heldout for name, splits in data.items()}
    ordered = sorted(found, key=lambda answers: table_order(answers.system))
    references = [answers.name for spec in REFERENCES for answers in ordered if answers.system == spec]
    if run.judges is not None:
        ordered = judge_answers(ordered, tasks, heldout, run.judges, run.folder.compare / "judge.json")
    results = score(tasks, ordered, references, run.recipe.evaluate, run.seed, heldout)
    results.write(run.folder.compare / "results.json")
    return results, write_tables(results, run.folder.compare)


def _common(run: Run) -> dict[str, object]:
    """What every system's fit depends on."""
    manifest = run.manifest("data")
    assert manifest is not None  # made above
    return {
        "tagpr": __version__,
        "model": weights_key(run.model),
        "data": manifest.hash,
        **run.recipe.block("profile", "prompt", "seed"),
        **prompt_files(run),
        "vocabulary": [[tag.name, tag.definition] for tag in run.context().vocabulary],
    }
