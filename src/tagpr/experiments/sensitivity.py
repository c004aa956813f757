"""Sensitivity to the reward's weights (table 6): a run is trained again, one variant per setting."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from tagpr.evaluation.results import Results
from tagpr.experiments.analyse import known, publish
from tagpr.experiments.variants import weighted
from tagpr.pipeline import make, make_variant
from tagpr.runs import Run, Variant
from tagpr.runs.run import show_nothing

REWARD_WEIGHTS = ((1.0, 1.0, 1.0), (0.2, 0.2, 0.8), (0.8, 0.2, 0.2), (0.2, 0.8, 0.2), (0.8, 0.8, 0.4), (0.8, 0.8, 0.2))
"""(alpha, beta, gamma) of table 6."""
FINAL_ONLY = ("evaluate.systems=[final]", "evaluate.other_history=false")
"""What the runs of a sweep over rewards answer: Base and SFT are the same under every setting."""


def rewards(run: Run, weights: Sequence[tuple[float, float, float]] = REWARD_WEIGHTS, processes: int = 1) -> Path:
    """Table 6: train and evaluate once per (alpha, beta, gamma), `processes` at a time. Returns the report's page.

    The run's stages up to its reward model must be there; they are shared. Killed, it continues.
    """
    variants = {f"{a:g}, {b:g}, {g:g}": weighted(a, b, g) for a, b, g in weights}
    first = next(iter(variants.values()))
    run.require(*first.needed(run))
    calls = [(run.source, run.overrides, run.folder.path.parent, variant) for variant in variants.values()]
    if processes > 1:
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            folders = list(pool.map(_final_results, *zip(*calls, strict=True)))
    else:
        folders = [_final_results(*call) for call in calls]
    found = {label: Results.read(folder) for label, folder in zip(variants, folders, strict=True)}
    return publish(run, replace(known(run), rewards=found))


def _final_results(source: str, overrides: Sequence[str], runs: Path, variant: Variant) -> Path:
    """Make a variant, in a process of its own if there are several; returns its results file."""
    variant = replace(variant, overrides=(*FINAL_ONLY, *variant.overrides))
    changed = make_variant(Run.open(source, overrides, runs, show_nothing), variant)
    make(changed, "evaluate")
    return changed.folder.results
