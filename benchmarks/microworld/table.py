"""The ablation table: the full method and the runs that leave one part out, over several seeds.

Every row takes as many optimizer steps as the full method: what a variant leaves out, the phases it keeps are given
(`variants`). Rows are trained by tagpr's own stages, nothing of the method is done here, and share by hard links those
stages of the full run that do not depend on what is left out. Finished stages are never run again.
"""

import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from microworld.build import RECIPE, TASK, Scale, build_base, build_microworld
from tagpr.evaluation.evaluate import evaluate_systems
from tagpr.evaluation.predictions import Prediction, read_predictions
from tagpr.experiments.variants import VARIANTS, trained
from tagpr.pipeline import make
from tagpr.runs import Run, Variant
from tagpr.runs.manifest import read_manifest
from tagpr.runs.metrics import ChainMetrics
from tagpr.runs.variant import TRAINING
from tagpr.stages import SUMMARIES
from tagpr.statistics import Interval, paired_bootstrap
from tagpr.training.metrics import RLMetrics, SFTMetrics

SYSTEMS = {"full": "final", "full, after SFT": "sft", "full, after guided RL": "guided", "base": "base"}
"""Rows that are systems of the full run; those after a phase have had fewer steps than the others."""
FULL = VARIANTS["tagpr"]
FIGURES: dict[str, Callable[[Prediction], float]] = {
    "format_rate": lambda row: float(row.format_ok),
    "chain_tokens": lambda row: float(row.chain_tokens),
}


def variants(scale: Scale) -> dict[str, Variant]:
    """The rows that are trained anew, by name; each with the full run's number of optimizer steps (to 1 or 2)."""
    block = {name: RECIPE[name] | scale.recipe.get(name, {}) for name in ("sft", "guided", "exploratory")}
    sft = block["sft"]["epochs"] * scale.chain_examples / block["sft"]["batch_size"]
    guided, exploratory = (block[name]["steps"] for name in ("guided", "exploratory"))
    rl = (guided + exploratory) * block["guided"]["minibatches"]
    more = (sft + rl) / rl
    instead = f"guided.steps={round(guided * more)}", f"exploratory.steps={round(exploratory * more)}"
    without_sft = VARIANTS["w/o-sft"]
    return {
        "w/o exploratory": replace(
            VARIANTS["w/o-exploratory"],
            overrides=(f"guided.steps={guided + exploratory}",),
            shared=("data", "chains", "sft", "prmu"),
        ),
        "w/o RL": replace(
            VARIANTS["w/o-rl"],
            overrides=(f"sft.epochs={block['sft']['epochs'] * (sft + rl) / sft:g}",),
            shared=("data", "chains"),
        ),
        "w/o SFT": replace(without_sft, overrides=(*without_sft.overrides, *instead)),
        "w/o Tag": VARIANTS["w/o-tag"],
        "w/o Reward (PRMU)": VARIANTS["w/o-reward"],
    }


def make_table(folder: Path, seeds: Sequence[int], scale: Scale, processes: int) -> dict[str, Any]:
    """Run whatever is missing, `processes` runs at a time, and return the figures."""
    os.environ["OMP_NUM_THREADS"] = "1"  # several processes with a thread each beat one with several at this size
    build_base(folder / "base", scale, _Line("base", every=50))
    recipes = {seed: build_microworld(folder / f"seed-{seed}", seed, scale, folder / "base") for seed in seeds}
    _run_all([(recipes[seed], FULL) for seed in seeds], processes)
    _run_all([(recipes[seed], variant) for seed in seeds for variant in variants(scale).values()], processes)
    return figures({seed: recipe.parent / "runs" for seed, recipe in recipes.items()}, variants(scale))


def _run_all(jobs: Sequence[tuple[Path, Variant]], processes: int) -> None:
    began = time.monotonic()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(train, *job) for job in jobs]
        for done, future in enumerate(as_completed(waiting), 1):
            future.result()
            left = (time.monotonic() - began) / done * (len(jobs) - done)
            sys.stderr.write(f"{done} of {len(jobs)} runs, about {left / 60:.0f} min left\n")


def train(recipe: Path, variant: Variant) -> None:
    """Train what is missing of a variant of the full run, and let it answer the held-out questions."""
    run = Run.open(recipe, ["name=full"], recipe.parent / "runs")
    if variant == FULL:
        stages = tuple(SUMMARIES)
        make(run, *stages[: stages.index("evaluate") + 1])
    else:
        model = trained(run, variant).folder
        out = folder_of(recipe.parent / "runs", variant) / "evaluate"
        settings = run.recipe.evaluate.model_copy(update={"other_history": False})
        evaluate_systems({"final": model}, run.data, replace(run.context(), folder=out), settings)
    sys.stderr.write(f"{recipe.parent.name} {variant.name}: done\n")


def folder_of(runs: Path, variant: Variant) -> Path:
    """The run folder of a variant of the full run."""
    return runs / ("full" if variant == FULL else f"full-{variant.name.replace('/', '')}")


def figures(runs: Mapping[int, Path], others: Mapping[str, Variant]) -> dict[str, Any]:
    """Mean and standard error over seeds of every row, and the full method's difference to each.

    runs: the folder of runs by seed; others: the rows trained anew. A difference's standard error is that of the paired
    differences of the seeds; `interval` is the paired bootstrap's over the users of all seeds, which says nothing of
    what another seed would have trained.
    """
    rows: dict[str, dict[int, list[Prediction]]] = {}
    for name, system in SYSTEMS.items():
        rows[name] = {seed: _read(folder_of(folder, FULL), system) for seed, folder in runs.items()}
    for name, variant in others.items():
        rows[name] = {seed: _read(folder_of(folder, variant), "final") for seed, folder in runs.items()}
    rows["full, another's history"] = {s: _read(folder_of(f, FULL), "final-other-history") for s, f in runs.items()}
    table = {name: _row(by_seed) for name, by_seed in rows.items()}
    differences = {}
    for name, row in table.items():
        if name != "full":
            pairs = zip(table["full"]["accuracy"]["values"], row["accuracy"]["values"], strict=True)
            interval = asdict(_interval(rows["full"], rows[name]))
            differences[f"full - {name}"] = _spread([a - b for a, b in pairs]) | {"interval": interval}
    seed = next(iter(runs))
    return {
        "seeds": list(runs),
        "questions": len(rows["full"][seed]),
        "unseen_users": len({row.user_id for row in rows["full"][seed] if _unseen(row)}),
        "variants": table,
        "differences": differences,
        "optimizer_steps": {name: _steps(runs, variant) for name, variant in {"full": FULL, **others}.items()},
        "seconds": {name: _seconds(runs, variant) for name, variant in {"full": FULL, **others}.items()},
        "chains": {seed: _chain_metrics(folder_of(folder, FULL)) for seed, folder in runs.items()},
    }


def _read(run: Path, system: str) -> list[Prediction]:
    return read_predictions(run / "evaluate" / "predictions" / system / f"{TASK}.jsonl")


def _unseen(row: Prediction) -> bool:
    return row.user_id.startswith("unseen")


def _accuracy(rows: Sequence[Prediction]) -> float:
    return statistics.fmean(row.scores["accuracy"] for row in rows)


def _row(by_seed: Mapping[int, Sequence[Prediction]]) -> dict[str, Any]:
    found = {
        "accuracy": _spread([_accuracy(rows) for rows in by_seed.values()]),
        "accuracy_seen_users": _spread([_accuracy([r for r in rows if not _unseen(r)]) for rows in by_seed.values()]),
        "accuracy_unseen_users": _spread([_accuracy([r for r in rows if _unseen(r)]) for rows in by_seed.values()]),
    }
    for name, read in FIGURES.items():
        found[name] = _spread([statistics.fmean(map(read, rows)) for rows in by_seed.values()])
    return found


def _interval(ours: Mapping[int, Sequence[Prediction]], theirs: Mapping[int, Sequence[Prediction]]) -> Interval:
    """The difference of accuracy on all seeds' questions, a user of two seeds being two users."""
    pairs = [(seed, *pair) for seed, rows in ours.items() for pair in zip(rows, theirs[seed], strict=True)]
    scores = [[pair[side].scores["accuracy"] for pair in pairs] for side in (1, 2)]
    return paired_bootstrap(*scores, [f"{seed} {row.user_id}" for seed, row, _ in pairs])


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean over seeds, its standard error (0 for one seed) and the values."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "standard_error": error, "values": list(values)}


def _chain_metrics(run: Path) -> dict[str, int]:
    manifest = read_manifest(run / "chains")
    assert manifest is not None and isinstance(manifest.metrics, ChainMetrics)
    return manifest.metrics.root


def _steps(runs: Mapping[int, Path], variant: Variant) -> list[int]:
    """Optimizer steps of the policy by seed, those of shared stages among them."""
    found = []
    for folder in runs.values():
        total = 0
        for stage in TRAINING[: TRAINING.index(variant.last) + 1]:
            run = folder_of(folder, FULL if stage in variant.shared else variant)
            manifest = read_manifest(run / stage)
            if manifest is not None and isinstance(manifest.metrics, SFTMetrics | RLMetrics):
                minibatches = manifest.settings[stage].get("minibatches", 1)
                total += manifest.metrics.steps * minibatches
        found.append(total)
    return found


def _seconds(runs: Mapping[int, Path], variant: Variant) -> float:
    """Mean seconds per seed of the stages that the variant made itself."""
    total = 0.0
    for folder in runs.values():
        for stage in SUMMARIES:
            manifest = read_manifest(folder_of(folder, variant) / stage)
            if manifest is not None and stage not in variant.shared:
                total += manifest.measured.seconds
    return round(total / len(runs), 1)


class _Line:
    """Progress as a line now and then."""

    def __init__(self, name: str, every: int) -> None:
        self.name, self.every, self.began = name, every, time.monotonic()

    def __call__(self, done: int, total: int, note: str) -> None:
        if done % self.every == 0 or done == total:
            left = (time.monotonic() - self.began) / done * (total - done)
            sys.stderr.write(f"{self.name} {done}/{total} {note}, about {left / 60:.0f} min left\n")
