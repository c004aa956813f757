"""Base without a format floor: the untrained model ranks package sections by likelihood (150 held-out questions).

    PYTHONPATH=benchmarks .venv/bin/python benchmarks/base_likelihood.py     # about two minutes on one core

The questions, history and prompt budget of the recipe `packages`. Writes benchmarks/results/base-likelihood.json.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from results_file import write_results
from tagpr.experiments.compare import compare
from tagpr.runs import Run

OVERRIDES = (
    "name=base-likelihood",
    "data.sources=[{task: package-section}]",
    "systems=[majority, user-majority, nearest-neighbour, base-likelihood, base-calibrated]",
)


def main() -> None:
    """Compare and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    run = Run.open("packages", OVERRIDES, parser.parse_args().runs)
    task = compare(run).results.tasks["package-section"]
    accuracy = {system: asdict(scores.intervals["accuracy"]) for system, scores in task.systems.items()}
    figures = {"heldout": task.n, "users": task.users, "accuracy": accuracy}
    write_results("base-likelihood", "python benchmarks/base_likelihood.py", figures)


if __name__ == "__main__":
    main()
