"""The ablation table: the full method and the runs that leave one part out, over several seeds.

Rows are the paper's variants (`tagpr.experiments.variants`); nothing of the method is done here. Three are systems of
the full run (its untrained base, its SFT model, its guided model), the others are trained and share by hard links those
stages of the full run that do not depend on what is left out. Finished stages are never run again.
"""

import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from microworld.build import TASK, Scale, build_base, build_microworld
from tagpr.evaluation.predictions import Prediction, read_predictions
from tagpr.experiments.variants import VARIANTS
from tagpr.pipeline import make, make_variant
from tagpr.runs import Run, Variant
from tagpr.runs.layout import STAGES
from tagpr.runs.manifest import read_manifest
from tagpr.runs.metrics import ChainMetrics

SYSTEMS = {"full": "final", "w/o exploratory": "guided", "w/o RL": "sft", "base": "base"}
"""Rows that are systems of the full run."""
FULL = VARIANTS["tagpr"]
TRAINED = {
    "w/o SFT": VARIANTS["w/o-sft"],
    "w/o Tag": VARIANTS["w/o-tag"],
    "w/o Reward (PRMU)": VARIANTS["w/o-reward"],
}
"""Rows that are trained anew."""
OTHER_CHAINS = (192, 384)
"""Numbers of SFT's examples, besides the table's, at which the full method is run: what RL adds depends on them."""
FIGURES: dict[str, Callable[[Prediction], float]] = {
    "format_rate": lambda row: float(row.format_ok),
    "chain_tokens": lambda row: float(row.chain_tokens),
}


def make_table(folder: Path, seeds: Sequence[int], scale: Scale, processes: int) -> dict[str, Any]:
    """Run whatever is missing, `processes` runs at a time, and return the figures."""
    os.environ["OMP_NUM_THREADS"] = "1"  # several processes with a thread each beat one with several at this size
    build_base(folder / "base", scale, _Line("base", every=50))
    recipes = {seed: build_microworld(folder / f"seed-{seed}", seed, scale, folder / "base") for seed in seeds}
    _run_all([(recipes[seed], FULL) for seed in seeds], processes)
    _run_all([(recipes[seed], variant) for seed in seeds for variant in TRAINED.values()], processes)
    found = figures({seed: recipe.parent / "runs" for seed, recipe in recipes.items()})
    by_chains = {scale.chain_examples: {name: found["variants"][name]["accuracy"] for name in SYSTEMS}}
    for count in OTHER_CHAINS:
        other = replace(scale, chain_examples=count)
        own = folder / f"chains-{count}"
        recipes = {seed: build_microworld(own / f"seed-{seed}", seed, other, folder / "base") for seed in seeds}
        _run_all([(recipe, FULL) for recipe in recipes.values()], processes)
        runs = [folder_of(recipe.parent / "runs", FULL) for recipe in recipes.values()]
        by_chains[count] = {
            name: _spread([_accuracy(_read(run, system)) for run in runs]) for name, system in SYSTEMS.items()
        }
    return found | {"accuracy_by_chain_examples": dict(sorted(by_chains.items()))}


def _run_all(jobs: Sequence[tuple[Path, Variant]], processes: int) -> None:
    began = time.monotonic()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(train, *job) for job in jobs]
        for done, future in enumerate(as_completed(waiting), 1):
            future.result()
            left = (time.monotonic() - began) / done * (len(jobs) - done)
            sys.stderr.write(f"{done} of {len(jobs)} runs, about {left / 60:.0f} min left\n")


def train(recipe: Path, variant: Variant) -> None:
    """Train what is missing of a variant of the full run, and evaluate it."""
    run = Run.open(recipe, ["name=full"], recipe.parent / "runs")
    if variant != FULL:
        variant = replace(variant, overrides=(*variant.overrides, "evaluate.systems=[final]"))
    changed = make_variant(run, variant)
    make(changed, "evaluate")
    sys.stderr.write(f"{recipe.parent.name} {changed.name}: done\n")


def folder_of(runs: Path, variant: Variant) -> Path:
    """The run folder of a variant of the full run."""
    return runs / ("full" if variant == FULL else f"full-{variant.name.replace('/', '')}")


def figures(runs: Mapping[int, Path]) -> dict[str, Any]:
    """Mean and standard error over seeds of every row, and the full method's difference to each.

    runs: the folder of runs by seed. A difference's standard error is that of the paired differences of the seeds;
    `standard_errors` is the difference over the root of both rows' summed squared errors, the harder measure of the two
    where seeds help or hurt both rows alike.
    """
    rows: dict[str, dict[int, list[Prediction]]] = {}
    for name, system in SYSTEMS.items():
        rows[name] = {seed: _read(folder_of(folder, FULL), system) for seed, folder in runs.items()}
    for name, variant in TRAINED.items():
        rows[name] = {seed: _read(folder_of(folder, variant), "final") for seed, folder in runs.items()}
    rows["full, another's history"] = {s: _read(folder_of(f, FULL), "final-other-history") for s, f in runs.items()}
    table = {name: _row(by_seed) for name, by_seed in rows.items()}
    differences = {}
    for name, row in table.items():
        if name == "full":
            continue
        pairs = zip(table["full"]["accuracy"]["values"], row["accuracy"]["values"], strict=True)
        spread = _spread([a - b for a, b in pairs])
        error = math.hypot(table["full"]["accuracy"]["standard_error"], row["accuracy"]["standard_error"])
        differences[f"full - {name}"] = spread | {"standard_errors": spread["mean"] / error if error else None}
    seed = next(iter(runs))
    return {
        "seeds": list(runs),
        "questions": len(rows["full"][seed]),
        "unseen_users": len({row.user_id for row in rows["full"][seed] if _unseen(row)}),
        "variants": table,
        "differences": differences,
        "seconds": {name: _seconds(runs, variant) for name, variant in {"full": FULL, **TRAINED}.items()},
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


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean over seeds, its standard error (0 for one seed) and the values."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "standard_error": error, "values": list(values)}


def _chain_metrics(run: Path) -> dict[str, int]:
    manifest = read_manifest(run / "chains")
    assert manifest is not None and isinstance(manifest.metrics, ChainMetrics)
    return manifest.metrics.root


def _seconds(runs: Mapping[int, Path], variant: Variant) -> float:
    """Mean seconds per seed of the stages that the variant made itself."""
    total = 0.0
    for folder in runs.values():
        for stage in STAGES:
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
